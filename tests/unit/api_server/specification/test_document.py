# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document has what is routed and what can go wrong, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import openapi_spec_validator
import pytest

from api_server.routes import PREFIX, ROUTES, Missing
from api_server.specification.downgrade import downgrade
from api_server.specification.endpoints import CHAPTERS, ENDPOINTS
from api_server.specification.failures import ELSEWHERE, OF_OPERATIONS, failures
from api_server.specification.meanings import MEANINGS
from api_server.status import STATUS
from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import SIGNATURES, Operation
from tests.support.contract import document, validator
from vmm_worker.transitions import STATES, TABLE

DOCUMENT = document()
LOWER = downgrade(DOCUMENT)
OPERATIONS: dict[str, dict[str, Any]] = {
    (PREFIX.rstrip("/") if "servers" not in item else "") + path: described
    for path, item in DOCUMENT["paths"].items()
    for method, described in item.items()
    if method != "servers"
}
CALLS = {path: route for path, route in ROUTES.items() if isinstance(route.endpoint, Operation)}


def references(value: Any) -> set[str]:
    """Find everything that is referred to."""
    if isinstance(value, list):
        return set().union(*map(references, value))
    if isinstance(value, dict):
        found = set().union(*map(references, value.values()))
        return found | ({value["$ref"]} if "$ref" in value else set())
    return set()


def codes(path: str) -> dict[str, set[str]]:
    """Return the codes that an operation is said to answer with, by status."""
    found = {}
    for status, response in OPERATIONS[path]["responses"].items():
        if "$ref" in response:
            problem = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
            (content,) = problem["content"].values()
            limits = content["schema"]["allOf"][1]["properties"]
            assert limits["status"]["const"] == int(status)
            found[status] = set(limits["code"]["enum"])
    return found


@pytest.mark.parametrize("each", [DOCUMENT, LOWER], ids=["3.1", "3.0"])
def test_it_is_openapi(each):
    openapi_spec_validator.validate(each)


def test_routes_and_paths_are_the_same():
    assert set(OPERATIONS) == set(ROUTES)
    for path, route in ROUTES.items():
        item = path.removeprefix(PREFIX.rstrip("/"))
        assert set(DOCUMENT["paths"][item]) - {"servers"} == {route.method.lower()}


def test_endpoints_and_routes_are_the_same():
    assert {name if name.startswith("/") else PREFIX + name for name in ENDPOINTS} == set(ROUTES)
    assert {each.chapter for each in ENDPOINTS.values()} == set(CHAPTERS)


def test_every_code_is_explained_and_is_somewhere():
    assert set(MEANINGS) == set(ErrorCode)
    somewhere = set().union(*(failures(route) for route in ROUTES.values()), ELSEWHERE)
    named = set().union(*(each.failures for each in ENDPOINTS.values()))
    assert somewhere | named == set(ErrorCode)


@pytest.mark.parametrize("path", ROUTES)
def test_statuses_are_those_of_the_codes(path):
    name = path.removeprefix(PREFIX)
    expected: dict[str, set[str]] = {}
    for code in failures(ROUTES[path], ENDPOINTS[name].failures):
        expected.setdefault(str(STATUS[code].value), set()).add(code)
    assert codes(path) == expected
    success = set(OPERATIONS[path]["responses"]) - set(expected)
    if isinstance(ROUTES[path].endpoint, Missing):
        assert success == set()
    else:
        assert str(ROUTES[path].success.value) in success
        assert all(status.startswith("2") for status in success)


def test_codes_of_states_are_those_of_the_worker():
    """What the one table of states refuses is documented, and no more of its codes."""
    of_states = set(TABLE.values()) - {None, ErrorCode.NOT_SUPPORTED}
    assert set(OF_OPERATIONS) == {route.endpoint for route in CALLS.values()}
    for operation, documented in OF_OPERATIONS.items():
        refused = {TABLE[state, operation] for state in STATES} - {None}
        assert refused <= documented, operation
        assert documented & of_states <= refused, operation


@pytest.mark.parametrize("path", CALLS)
def test_bodies_are_those_of_the_signatures(path):
    signature = SIGNATURES[CALLS[path].endpoint]
    described = OPERATIONS[path]
    assert ("requestBody" in described) == (signature.request is not None)
    success = described["responses"][str(CALLS[path].success.value)]
    assert ("content" in success) == (signature.result is not None)


@pytest.mark.parametrize("path", ROUTES)
def test_examples_are_what_they_are_examples_of(path):
    described = OPERATIONS[path]
    places = [described.get("requestBody", {}), *described["responses"].values()]
    for place in places:
        for content in place.get("content", {}).values():
            assert content["example"] is not None
            validator(json.dumps(content["schema"])).validate(content["example"])


@pytest.mark.parametrize("path", ROUTES)
def test_everything_is_described(path):
    described = OPERATIONS[path]
    assert re.fullmatch(r"[A-Z].*\.", described["summary"])
    assert described["description"].endswith(".")
    assert described["x-role"] == str(ROUTES[path].role)


def test_names_are_those_that_clients_of_cloud_hypervisor_know():
    ids = [described["operationId"] for described in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)
    known = {"createVM", "bootVM", "shutdownVM", "shutdownVMM", "pauseVM", "power-buttonVM"}
    made = {"vmmPingGet", "vmInfoGet", "vmCountersGet", "vmResizePut", "vmAddDiskPut"}
    assert known | made <= set(ids)
    schemas = {"VmmPingResponse", "VmInfo", "VmConfig", "VmCounters", "VmResize", "DiskConfig"}
    assert schemas <= set(DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize("each", [DOCUMENT, LOWER], ids=["3.1", "3.0"])
def test_every_component_is_used_and_every_use_has_one(each):
    there = {
        f"#/components/{kind}/{name}" for kind, all_ in each["components"].items() for name in all_
    }
    used = references(each)
    assert used <= there
    elsewhere = {f"#/components/responses/{code}" for code in ELSEWHERE}
    unused = there - used - elsewhere
    # The generators' rendering does not say which codes come with which status.
    assert unused == set()


def test_the_lower_rendering_has_the_same_operations():
    assert LOWER["openapi"] == "3.0.3"
    assert set(LOWER["paths"]) == set(DOCUMENT["paths"])
    text = json.dumps(LOWER)
    assert '"null"' not in text
    assert '"const"' not in text
    cpus = LOWER["components"]["schemas"]["VmConfig"]["properties"]["cpus"]
    assert "default" not in cpus, "generators stumble over an object"
    topology = LOWER["components"]["schemas"]["CpusConfig"]["properties"]["topology"]
    assert topology["nullable"]
    assert topology["allOf"] == [{"$ref": "#/components/schemas/CpuTopology"}]
