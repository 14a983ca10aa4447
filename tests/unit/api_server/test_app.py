# SPDX-License-Identifier: Apache-2.0
import io
import json
import logging
import socket
import threading
from pathlib import Path

import pytest

from api_server.access import Access
from api_server.app import create_app
from api_server.audit_log import AuditStream
from api_server.log_lines import LogFormat
from api_server.logs import StructuredFormatter
from api_server.peers import Peers
from api_server.services import Services
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import Operation
from ipc_protocol.names import ipc_path
from tests.support.api import Peer


class _Broken(Peers):
    """Workers whose address book is damaged."""

    def locate(self, host, *_):
        raise LookupError(f"secret of {host}")


def _broken_app():
    peers = _Broken(Path("/nowhere"), "default")
    audit = AuditStream(LogFormat.LOGFMT)
    access = Access(Path("/nowhere"))
    return create_app(Services(peers=peers, access=access, audit=audit))


def _call(app, path, method="GET", body=b"", **environ):
    """Call the application as gunicorn does and return status, headers, body."""
    told = {}
    ours, theirs = socket.socketpair()

    def start_response(status, headers, _exc_info=None):
        told.update(status=int(status.split()[0]), headers=dict(headers))

    environment = {
        "REQUEST_METHOD": method,
        "RAW_URI": path,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "gunicorn.socket": ours,
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        **environ,
    }
    with ours, theirs:
        answer = b"".join(app(environment, start_response))
    return told["status"], told["headers"], answer


def test_an_unforeseen_exception_is_500_and_says_nothing_but_a_reference(caplog):
    app = _broken_app()
    with caplog.at_level(logging.INFO):
        status, headers, body = _call(app, "/api/v1/vmm.ping")
    assert status == 500
    assert headers["content-type"] == "application/problem+json"
    assert b"secret" not in body
    assert b"Traceback" not in body
    assert "secret of localhost" in caplog.text
    reference = body.partition(b'"reference":"')[2].partition(b'"')[0].decode()
    assert len(reference) == 16
    assert reference in caplog.text


@pytest.mark.parametrize("path", ["/", "*", "", "//", "/api/v1/vmm.ping/", "/api/v2/vmm.ping"])
def test_any_other_path_is_404(path):
    app = _broken_app()
    status, headers, body = _call(app, path)
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert b'"code":"route_not_found"' in body


def test_every_request_is_one_line_of_log(caplog):
    app = _broken_app()
    with caplog.at_level(logging.INFO, logger="api_server.request_log"):
        _call(app, "/api/%0a" + "x" * 1000, "PUT", HTTP_HOST="a\nb" * 1000, HTTP_X_REQUEST_ID="r-7")
    (record,) = (record for record in caplog.records if record.name == "api_server.request_log")
    for form in LogFormat:
        line = StructuredFormatter(form).format(record)
        assert "PUT" in line
        assert "/api/%0a" in line
        assert "route_not_found" in line
        assert "\n" not in line
        assert len(line) < 700
    assert record.fields["status"] == 404


def test_an_error_carries_the_id_of_its_request():
    app = _broken_app()
    _, headers, body = _call(app, "/nowhere", HTTP_X_REQUEST_ID="r-7")
    assert headers["x-request-id"] == "r-7"
    assert json.loads(body)["request_id"] == "r-7"


def test_workers_are_found_by_name_and_forgotten_when_they_go(tmp_path):
    peers = Peers(tmp_path, "main", timeout=5)
    with pytest.raises(VmFailure) as failure:
        peers.locate("web-1")
    assert failure.value.error.code is ErrorCode.VM_UNKNOWN
    assert peers.locate("localhost") == ipc_path(tmp_path, "main")

    for _ in range(2):
        with Peer(ipc_path(tmp_path, "web-1")) as peer:
            path = peers.locate("web-1")
            assert path == peer.path
            assert peers.call(path, Operation.VMM_PING, None).version == "1"
        with pytest.raises(VmFailure) as failure:
            peers.call(path, Operation.VMM_PING, None)
        assert failure.value.error.code is ErrorCode.VMM_UNAVAILABLE
        with pytest.raises(VmFailure):
            peers.locate("web-1")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("peer")]
    peers.close()


def test_a_pinned_worker_answers_for_any_host(tmp_path):
    path = ipc_path(tmp_path, "some")
    peers = Peers(tmp_path, "main", pinned=path)
    for host in ("", "localhost", "web-1", "%2Frun%2Fx.sock", "../.."):
        assert peers.locate(host) == path


def test_a_method_that_only_falcon_knows_is_refused_as_any_other():
    status, _, body = _call(_broken_app(), "/api/v1/vmm.ping", "WEBSOCKET")
    assert status == 400
    assert b'"code":"invalid_request"' in body
