# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told: of this server, of each worker, and of each VM."""
