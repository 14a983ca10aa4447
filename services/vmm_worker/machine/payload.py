# SPDX-License-Identifier: Apache-2.0
"""The guest's payload: its files opened, checked and planned, then loaded and described."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from ipc_protocol.config import PayloadConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from kvm_shim import Boot, Vm
from vmm_worker.machine import layout
from vmm_worker.machine.image import ImageError, KernelImage, Protocol
from vmm_worker.machine.initramfs import Initramfs, place_initramfs
from vmm_worker.machine.kernel import parse_kernel
from vmm_worker.machine.linux64 import zero_page
from vmm_worker.machine.memory import MapEntry
from vmm_worker.machine.pvh import start_info

__all__ = ["Payload"]

KERNEL_FIELD = "/payload/kernel"
INITRAMFS_FIELD = "/payload/initramfs"
CMDLINE_FIELD = "/payload/cmdline"


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """A regular file, open for reading."""

    fd: int
    path: str
    size: int
    pointer: str

    def read(self, offset: int, size: int) -> bytes:
        """Read from the file without moving its position.

        Raises:
            VmFailure: If the file cannot be read.
        """
        try:
            return os.pread(self.fd, size, offset)
        except OSError as ex:
            raise unavailable(self.path, self.pointer, ex.strerror or str(ex)) from ex

    def load(self, vm: Vm, address: int, offset: int, size: int) -> None:
        """Copy a part of the file into guest RAM.

        Raises:
            VmFailure: If the file cannot be read or has become shorter.
        """
        try:
            vm.load_memory(address, self.fd, offset, size)
        except OSError as ex:
            raise unavailable(self.path, self.pointer, str(ex)) from ex


@dataclass(slots=True)
class Payload:
    """A payload that fits the machine; a context manager that holds its files open."""

    kernel: KernelImage
    initramfs: Initramfs | None
    cmdline: bytes
    kernel_file: PayloadFile
    initramfs_file: PayloadFile | None
    _files: ExitStack = field(repr=False)

    @classmethod
    def open(cls, config: PayloadConfig, ram_end: int) -> Payload:
        """Open the files and find out where everything goes.

        Args:
            config: The payload as configured.
            ram_end: The end of the RAM below 4 GiB.

        Raises:
            VmFailure: If a file is missing or unfit, or the RAM too small for it.
        """
        if config.kernel is None:
            text = "there is nothing to boot: name a kernel"
            raise VmFailure(
                ErrorCode.INVALID_CONFIG, text, fields=(FieldError(KERNEL_FIELD, text),)
            )
        with ExitStack() as stack:
            kernel_file = open_file(stack, config.kernel, KERNEL_FIELD)
            kernel = plan_kernel(kernel_file, ram_end)
            cmdline = check_cmdline(config.cmdline or "", kernel)
            initramfs_file, initramfs = None, None
            if config.initramfs is not None:
                initramfs_file = open_file(stack, config.initramfs, INITRAMFS_FIELD)
                initramfs = plan_initramfs(initramfs_file, kernel, ram_end)
            return cls(kernel, initramfs, cmdline, kernel_file, initramfs_file, stack.pop_all())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.close()

    def load(self, vm: Vm, memory_map: tuple[MapEntry, ...]) -> None:
        """Put the kernel, the initramfs and what describes them into guest RAM."""
        for address, offset, size in self.kernel.segments:
            self.kernel_file.load(vm, address, offset, size)
        if self.initramfs is not None and self.initramfs_file is not None:
            self.initramfs_file.load(vm, self.initramfs.address, 0, self.initramfs.size)
        vm.write_memory(layout.CMDLINE, self.cmdline + b"\0")
        if self.kernel.protocol is Protocol.LINUX64:
            page = zero_page(self.kernel.setup_header, memory_map, self.initramfs)
            vm.write_memory(layout.ZERO_PAGE, page)
        else:
            vm.write_memory(layout.PVH_START_INFO, start_info(memory_map, self.initramfs))

    def enter(self, vm: Vm, index: int) -> None:
        """Set the registers of the boot vCPU."""
        linux = self.kernel.protocol is Protocol.LINUX64
        boot = Boot(
            entry=self.kernel.entry,
            argument=layout.ZERO_PAGE if linux else layout.PVH_START_INFO,
            stack=layout.BOOT_STACK,
            gdt=layout.GDT,
            page_tables=layout.PAGE_TABLES,
        )
        if linux:
            vm.enter_linux64(index, boot)
        else:
            vm.enter_pvh(index, boot)


def unavailable(path: str, pointer: str, reason: str) -> VmFailure:
    """Return the error for a file that cannot be used."""
    return VmFailure(
        ErrorCode.FILE_UNAVAILABLE,
        f"{pointer}: the file {path} cannot be read: {reason}",
        causes=(reason,),
        fields=(FieldError(pointer, reason),),
    )


def open_file(stack: ExitStack, path: str, pointer: str) -> PayloadFile:
    """Open a regular file, which ``stack`` closes; a FIFO must not make the worker wait."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        stack.callback(os.close, fd)
        status = os.fstat(fd)
    except (OSError, ValueError) as ex:  # ValueError: a NUL in the path
        reason = getattr(ex, "strerror", None) or str(ex)
        raise unavailable(path, pointer, reason) from ex
    if not stat.S_ISREG(status.st_mode):
        raise unavailable(path, pointer, "it is not a regular file")
    return PayloadFile(fd, path, status.st_size, pointer)


def plan_kernel(file: PayloadFile, ram_end: int) -> KernelImage:
    """Parse the kernel, with the file named in what goes wrong."""
    try:
        return parse_kernel(file.read, file.size, ram_end)
    except ImageError as ex:
        raise VmFailure(
            ErrorCode.INVALID_KERNEL,
            f"{file.path} cannot be booted: {ex}",
            causes=(str(ex),),
            fields=(FieldError(file.pointer, str(ex)),),
        ) from ex


def check_cmdline(text: str, kernel: KernelImage) -> bytes:
    """Encode the command line, which has to fit what the kernel takes."""
    encoded = text.encode("utf-8", "surrogateescape")
    if len(encoded) > kernel.cmdline_limit:
        reason = f"{len(encoded)} bytes, and the kernel takes at most {kernel.cmdline_limit}"
        raise VmFailure(
            ErrorCode.CMDLINE_TOO_LONG,
            f"the command line is too long: {reason}",
            fields=(FieldError(CMDLINE_FIELD, reason),),
        )
    return encoded


def plan_initramfs(file: PayloadFile, kernel: KernelImage, ram_end: int) -> Initramfs | None:
    """Choose a place for the initramfs; an empty one is none."""
    if file.size == 0:
        return None
    place = place_initramfs(file.size, kernel, ram_end)
    if place is None:
        reason = (
            f"{file.size} bytes find no room in the RAM below "
            f"{min(ram_end, kernel.initramfs_limit):#x} beside the kernel, which needs "
            f"{kernel.start:#x} to {kernel.end:#x}"
        )
        raise VmFailure(
            ErrorCode.INITRAMFS_TOO_LARGE,
            f"the initramfs {file.path} is too large for the VM's memory: {reason}",
            fields=(FieldError(file.pointer, reason),),
        )
    return place
