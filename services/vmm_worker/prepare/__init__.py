# SPDX-License-Identifier: Apache-2.0
"""``prepare-vm``: what needs root before a worker starts and after it ended."""
