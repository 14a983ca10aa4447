# SPDX-License-Identifier: Apache-2.0
import falcon.testing
import pytest

from api_server.call_context import call_context
from api_server.request import Request
from ipc_protocol.context import Context
from ipc_protocol.errors import ApiFailure, ErrorCode
from ipc_protocol.messages import SIGNATURES, Operation


def _context(operation=Operation.VM_BOOT, *, query=None, **headers):
    environ = falcon.testing.create_environ(
        headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    req = Request(environ)
    req.context.request_id = "r-1"
    req.context.query = query or {}
    return call_context(req, operation)


def test_without_headers_there_is_the_request_id():
    assert _context() == Context(request_id="r-1")


@pytest.mark.parametrize(
    ("header", "applied"),
    [
        ("respond-async", True),
        ("Respond-Async", True),
        ("wait=10, respond-async", True),
        ("respond-async; a=b,wait=10", True),
        (' , respond-async=""', True),
        ('handling="a, respond-async"', False),
        (r'handling="\", respond-async"', False),
        ("respond-asynchronously", False),
        ("return=minimal", False),
        ("", False),
    ],
)
def test_the_preference_is_found_among_others(header, applied):
    assert _context(Prefer=header).respond_async == applied


@pytest.mark.parametrize("operation", Operation)
def test_only_a_job_is_answered_later_or_known_by_a_key(operation):
    context = _context(operation, Prefer="respond-async", Idempotency_Key="k")
    is_job = SIGNATURES[operation].is_job
    assert context.respond_async == is_job
    assert context.idempotency_key == ("k" if is_job else None)


@pytest.mark.parametrize("key", ["k", "8e03978e-40d5-43dd", '"quoted"', "!~", "x" * 255])
def test_a_key_is_taken_as_it_is(key):
    assert _context(Idempotency_Key=key).idempotency_key == key


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "sch\xf6n", "\x7f"])
@pytest.mark.parametrize("operation", [Operation.VM_BOOT, Operation.VMM_PING])
def test_what_is_no_key_is_refused_by_name(key, operation):
    with pytest.raises(ApiFailure, match="Idempotency-Key") as caught:
        _context(operation, Idempotency_Key=key)
    assert caught.value.error.code is ErrorCode.INVALID_REQUEST


def test_a_trial_is_asked_for_by_the_query():
    assert _context(Operation.VM_CREATE, query={"dry_run": "true"}).dry_run
    assert not _context(Operation.VM_CREATE, query={"dry_run": "false"}).dry_run
