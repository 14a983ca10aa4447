# SPDX-License-Identifier: Apache-2.0
"""The host's side of each device: what its configuration opens, and its counters."""
