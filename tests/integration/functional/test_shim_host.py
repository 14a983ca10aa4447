# SPDX-License-Identifier: Apache-2.0
"""What is told of a KVM device, and of what is none."""

import errno
import os
from pathlib import Path

import pytest

from kvm_shim import ShimError, Vm, probe_host, supported_cpuid

KVM_SIGNATURE_LEAF = 0x40000000


@pytest.mark.kvm
def test_the_host_is_described():
    host = probe_host()
    assert host.api_version == 12
    assert 1 <= host.recommended_vcpus <= host.max_vcpus
    assert host.memory_slots >= 32


@pytest.mark.kvm
def test_cpuid_has_the_basic_and_the_kvm_leaves():
    functions = {entry.function for entry in supported_cpuid()}
    assert {0, 1, 7, 0x80000000, KVM_SIGNATURE_LEAF} <= functions


@pytest.mark.parametrize("call", [probe_host, supported_cpuid, Vm])
@pytest.mark.parametrize(
    ("device", "code", "words"),
    [
        ("/dev/no-such-kvm", errno.ENOENT, ["open /dev/no-such-kvm"]),
        ("/dev/null", errno.ENOTTY, ["/dev/null is not a KVM device"]),
        ("/dev", errno.EISDIR, ["open /dev"]),
    ],
)
def test_what_is_no_kvm_device_is_named(call, device, code, words):
    descriptors = Path("/proc/self/fd")
    before = sorted(path.name for path in descriptors.iterdir())
    with pytest.raises(ShimError) as caught:
        call(device)
    assert caught.value.errno == code
    for word in [*words, os.strerror(code)]:
        assert word in caught.value.context
    assert sorted(path.name for path in descriptors.iterdir()) == before


def test_an_error_is_an_oserror_that_can_be_copied():
    error = ShimError(errno.EBUSY, "the VM is running")
    assert isinstance(error, OSError)
    function, arguments = error.__reduce__()
    copy = function(*arguments)
    assert (copy.errno, copy.context) == (errno.EBUSY, "the VM is running")
