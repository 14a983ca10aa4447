# SPDX-License-Identifier: Apache-2.0
"""The one exception of the shim."""

import errno

__all__ = ["ShimError"]


class ShimError(OSError):
    """A call of the C core failed.

    Attributes:
        errno: The positive error number.
        context: What failed, with the value at fault.
    """

    def __init__(self, code: int, context: str) -> None:
        super().__init__(code, context)
        self.context = context

    def __reduce__(self) -> tuple[type["ShimError"], tuple[int, str]]:
        return type(self), (self.errno or 0, self.context)

    @classmethod
    def closed(cls) -> "ShimError":
        """Return the error of using a VM that was closed."""
        return cls(errno.EBADF, "the VM is closed")
