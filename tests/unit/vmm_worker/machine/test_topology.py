# SPDX-License-Identifier: Apache-2.0
"""APIC ids of vCPUs, for every topology."""

from hypothesis import assume, given
from hypothesis import strategies as st

from ipc_protocol.config import CpusConfig, CpuTopology
from vmm_worker.machine.topology import Place, Topology

UNITS = st.integers(1, 254)


def topology(threads, cores, dies, packages):
    count = threads * cores * dies * packages
    return CpusConfig(
        boot_vcpus=count,
        max_vcpus=count,
        topology=CpuTopology(
            threads_per_core=threads,
            cores_per_die=cores,
            dies_per_package=dies,
            packages=packages,
        ),
    )


def test_without_one_every_vcpu_is_a_core():
    for count in range(1, 255):
        top = Topology.of(CpusConfig(boot_vcpus=count, max_vcpus=count))
        assert [top.apic_id(index) for index in range(count)] == list(range(count))
        assert top.threads_per_package == count
        assert top.thread_bits == 0
        assert 1 << top.die_bits >= count


def test_holes_where_a_level_is_no_power_of_two():
    top = Topology.of(topology(2, 3, 1, 2))
    assert [top.apic_id(index) for index in range(12)] == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]
    assert top.place(7) == Place(package=1, die=0, core=0, thread=1)


@given(UNITS, UNITS, UNITS, UNITS)
def test_ids_are_unique_increasing_and_split_into_the_place(threads, cores, dies, packages):
    assume(threads * cores * dies * packages <= 254)
    top = Topology.of(topology(threads, cores, dies, packages))
    count = threads * cores * dies * packages
    ids = [top.apic_id(index) for index in range(count)]
    assert sorted(set(ids)) == ids
    for index, apic_id in enumerate(ids):
        place = top.place(index)
        assert apic_id >> top.die_bits == place.package < packages
        assert apic_id >> top.core_bits & (1 << top.die_bits - top.core_bits) - 1 == place.die
        assert apic_id & (1 << top.thread_bits) - 1 == place.thread
