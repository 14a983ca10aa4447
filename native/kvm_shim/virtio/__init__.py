# SPDX-License-Identifier: Apache-2.0
"""The PCI devices of a virtual machine, a module for each kind.

Nothing is re-exported, so that a process loads only the kinds that its machine has.
"""

__all__: list[str] = []
