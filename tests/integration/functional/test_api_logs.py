# SPDX-License-Identifier: Apache-2.0
"""One request is found in every log, by one id."""

import json
import re
import socket

from tests.support.api import ApiProcess
from tests.support.guests import build
from tests.support.processes import vm_config

_LINE = re.compile(r'(?:[a-z_]+=(?:"(?:[^"\\]|\\.)*"|[!#-<>-~]+)(?: |$))+')


def test_an_id_is_in_the_answer_and_in_all_three_logs(tmp_path, worker):
    audit = tmp_path / "audit.log"
    headers = {"X-Request-Id": "order-66"}
    with (
        ApiProcess(tmp_path, "--audit-log", audit, "--log-format", "json") as api,
        api.http() as http,
    ):
        config = vm_config(build("hello"))
        dry = http.put("/api/v1/vm.create?dry_run=true", config, headers=headers)
        assert (dry.status, dry.headers["x-request-id"]) == (204, "order-66")
        assert http.put("/api/v1/vm.create", config).status == 204
        failed = http.put("/api/v1/vm.pause", headers=headers)
        assert (failed.json["code"], failed.json["request_id"]) == ("vm_not_running", "order-66")
        job = http.put("/api/v1/vm.delete", headers={"Prefer": "respond-async"})
        assert job.status == 202
    logged = [json.loads(line) for line in api.read_log().splitlines()]
    ours = [line for line in logged if line.get("request_id") == "order-66"]
    assert [(line["target"], line["status"], line.get("code")) for line in ours] == [
        ("/api/v1/vm.create?dry_run=true", 204, None),
        ("/api/v1/vm.pause", 409, "vm_not_running"),
    ]
    audited = [json.loads(line) for line in audit.read_text().splitlines()]
    names = [line["operation"] for line in audited]
    assert names == ["vm.create", "vm.create", "vm.pause", "vm.delete"]
    assert [line.get("query") for line in audited] == ["dry_run=true", None, None, None]
    assert [line.get("job") for line in audited] == [None, None, None, job.json["id"]]
    first, second, third, _ = (line["request_id"] for line in audited)
    assert first == third == "order-66" != second
    told = [line for line in worker.read_log().splitlines() if "request_id=order-66" in line]
    assert any("vm.pause" in line for line in told), worker.read_log()


def test_whatever_is_logged_is_one_line_that_can_be_parsed(tmp_path):
    with ApiProcess(tmp_path, "--log-level", "debug") as api:
        api.request("GET", "no%0asuch", headers={"Host": 'a "b"=c'})
        api.request("PUT", "vm.boot", headers={"X-Request-Id": "two words"})
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(api.socket))
            raw.sendall(b"no HTTP at all\r\n\r\n")
            answer = raw.recv(65536).decode()
    made = re.search(r"X-Request-Id: (\w+)\r\n", answer)[1]
    assert json.loads(answer.partition("\r\n\r\n")[2])["request_id"] == made
    lines = api.read_log().splitlines()
    assert [line for line in lines if not _LINE.fullmatch(line)] == []
    assert any("refused a request" in line and f"request_id={made}" in line for line in lines)
