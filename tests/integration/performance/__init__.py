# SPDX-License-Identifier: Apache-2.0
"""What Velum costs, measured beside its peers: ``python -m tests.integration.performance``."""
