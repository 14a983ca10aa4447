# SPDX-License-Identifier: Apache-2.0
"""Resource descriptors, byte for byte."""

from vmm_worker.machine import resources


def test_small_descriptors():
    assert resources.io(0x3F8, 8) == bytes.fromhex("4701f803f8030108")
    assert resources.irq(4) == bytes.fromhex("221000")
    assert resources.irq(15) == bytes.fromhex("220080")


def test_large_descriptors():
    assert resources.interrupt(5) == bytes.fromhex("890600030105000000")
    assert resources.memory(0xE8000000, 0x100000) == bytes.fromhex("86090001000000e800001000")
    assert resources.bus_numbers(0, 0) == bytes.fromhex("880d00020c0000000000000000000100")
    assert resources.io_window(0, 0xCF7) == bytes.fromhex("880d00010c0300000000f70c0000f80c")
    assert resources.memory_window(0xC0000000, 0xE6FFFFFF) == bytes.fromhex(
        "871700000c0100000000000000c0ffffffe60000000000000027"
    )


def test_template_ends_with_its_tag():
    assert resources.resource_template(resources.irq(4)) == bytes.fromhex("11080a052210007900")[
        :2
    ] + bytes.fromhex("0a052210007900")
