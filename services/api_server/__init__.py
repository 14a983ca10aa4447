# SPDX-License-Identifier: Apache-2.0
"""HTTP in, IPC out: the process that parses what clients send and owns nothing else."""
