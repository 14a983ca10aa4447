# SPDX-License-Identifier: Apache-2.0
"""What schemathesis is told beyond the specification: a kernel that boots, and what a no is."""

from __future__ import annotations

import os
from typing import Any

import schemathesis

__all__ = ["map_body", "refusals_explain_themselves"]

_SMALL = 64 << 20


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Have the small ones of the configurations be for a guest that boots."""
    del context
    if not isinstance(body, dict) or not isinstance(body.get("payload"), dict):
        return body
    memory, cpus = body.get("memory"), body.get("cpus")
    size = memory.get("size") if isinstance(memory, dict) else None
    vcpus = cpus.get("boot_vcpus", 1) if isinstance(cpus, dict) else 1
    if isinstance(size, int) and size <= _SMALL and vcpus == 1 and "kernel" in body["payload"]:
        kernel = {"kernel": os.environ["VELUM_GUEST"]}
        return {**body, "payload": {**body["payload"], **kernel}}
    return body


@schemathesis.check
def refusals_explain_themselves(context: Any, response: Any, case: Any) -> None:
    """Check that whatever was refused is a problem that names fields where fields are wrong."""
    del context, case
    if response.status_code < 400:
        return
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["x-request-id"][0]
    assert problem["detail"].isprintable()
    if problem["code"] == "invalid_config":
        assert problem["errors"], "a configuration is wrong, and nothing says where"
        assert all(error["pointer"][:1] in ("", "/") for error in problem["errors"])
