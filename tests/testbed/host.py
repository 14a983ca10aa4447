# SPDX-License-Identifier: Apache-2.0
"""What this machine can do by itself, and what needs the testbed."""

import os
import re
from pathlib import Path

__all__ = ["fast_kvm", "inside_testbed", "kvm", "place"]

KVM = "/dev/kvm"


def kvm() -> bool:
    """Tell whether any KVM can be used here, however slow."""
    return os.access(KVM, os.R_OK | os.W_OK)


def fast_kvm() -> bool:
    """Tell whether this machine's KVM runs an ordinary guest at a useful speed."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return kvm() and flags is not None and not {"vmx", "svm"}.isdisjoint(flags[1].split())


def inside_testbed() -> bool:
    """Tell whether this is the testbed's machine."""
    return "VELUM_TESTBED" in os.environ


def place() -> str:
    """Say in one line where Linux guests run, and why there."""
    if inside_testbed():
        return "Linux guests run here, inside the testbed"
    if fast_kvm():
        return f"Linux guests run on this machine's {KVM}"
    reason = "the CPU shows neither VMX nor SVM" if kvm() else f"{KVM} cannot be opened"
    return f"Linux guests run inside the testbed (an emulated machine): {reason}"
