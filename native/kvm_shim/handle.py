# SPDX-License-Identifier: Apache-2.0
"""The lifetime of a VM's C object, shared by the VM and its devices."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvm_shim._native import ffi, lib
from kvm_shim.errors import ShimError

__all__ = ["Handle", "checked"]


def checked(function: Callable[..., int], *arguments: Any) -> int:
    """Call a function of the C core and raise what it reports.

    Args:
        function: One that takes a `kvmshim_error *` last and returns a negative errno.
        *arguments: The ones before.

    Returns:
        Its result, when that is not negative.

    Raises:
        ShimError: The call failed.
    """
    error = ffi.new("kvmshim_error *")
    result = function(*arguments, error)
    if result < 0:
        context = ffi.string(error.context).decode("utf-8", "replace")
        raise ShimError(-result, context)
    return result


class Handle:
    """Counts the calls in progress, so that closing waits for them.

    A call that finds the VM closed raises `ShimError` with EBADF.
    """

    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer
        self._calls = 0
        self._changed = threading.Condition()

    @contextmanager
    def use(self) -> Iterator[Any]:
        """Keep the VM from being destroyed, and give its pointer."""
        with self._changed:
            if self._pointer is None:
                raise ShimError.closed()
            self._calls += 1
            pointer = self._pointer
        try:
            yield pointer
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Destroy the VM once no call is in progress; again is harmless."""
        with self._changed:
            pointer, self._pointer = self._pointer, None
            if pointer is None:
                return
            self._changed.wait_for(lambda: self._calls == 0)
        lib.kvmshim_vm_destroy(pointer)

    def save(self, function: Callable[..., int], *arguments: Any) -> bytes:
        """Call a save function twice: for its size, and for its bytes."""
        size = ffi.new("uint64_t *")
        checked(function, *arguments, ffi.NULL, 0, size)
        data = ffi.new("uint8_t[]", size[0])
        checked(function, *arguments, data, len(data), size)
        return bytes(ffi.buffer(data, size[0]))
