# SPDX-License-Identifier: Apache-2.0
"""``wait``: until a VM is in a state."""

from __future__ import annotations

import time
from typing import Final

import click

from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import VmState
from velumctl.api import Api
from velumctl.cli import Target, command, pass_target
from velumctl.failures import ExitCode, Failure, Refusal

__all__ = ["COMMANDS"]

_PERIOD: Final = 0.1
_NOT_CREATED: Final = "notcreated"
_GONE: Final = "gone"
_STATES: Final = (*(state.lower() for state in VmState), _NOT_CREATED, _GONE)


@command("wait")
@click.option(
    "--state",
    "states",
    type=click.Choice(_STATES, case_sensitive=False),
    multiple=True,
    required=True,
    help="Which; may be given more than once. notcreated: there is no VM. gone: no worker either.",
)
@click.option(
    "--within",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Give up after so long (default: never).",
)
@pass_target
def wait(target: Target, *, states: tuple[str, ...], within: float | None) -> None:
    """Wait until the VM is in one of the states."""
    deadline = None if within is None else time.monotonic() + within
    with target.api() as api:
        state = _state(api)
        while state not in states:
            if deadline is not None and time.monotonic() >= deadline:
                wanted = " or ".join(states)
                raise Failure(
                    ExitCode.TIMED_OUT, f"the VM is not {wanted} after {within:g} s: it is {state}"
                )
            time.sleep(_PERIOD)
            try:
                state = _state(api)
            except Failure as ex:
                # The API server may be restarted meanwhile; what else it says is final.
                if not ex.is_loss:
                    raise


def _state(api: Api) -> str:
    try:
        state: str = api.get("vm.info")["state"]
    except Refusal as ex:
        if ex.problem.code == ErrorCode.VM_NOT_CREATED:
            return _NOT_CREATED
        if ex.problem.code == ErrorCode.VMM_UNAVAILABLE:
            return _GONE
        raise
    return state.lower()


COMMANDS: Final = (wait,)
