# SPDX-License-Identifier: Apache-2.0
"""What a PC is: layout, CPUID, boot protocols and ACPI tables, on the shim's mechanism."""
