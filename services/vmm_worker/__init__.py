# SPDX-License-Identifier: Apache-2.0
"""The monitor: one process that owns one virtual machine."""
