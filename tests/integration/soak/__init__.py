# SPDX-License-Identifier: Apache-2.0
"""Many VMs made, booted, paused, killed and deleted at random, and nothing wrong or left."""
