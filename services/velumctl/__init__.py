# SPDX-License-Identifier: Apache-2.0
"""``velumctl``: the command line for people, a client of the HTTP API and of nothing else."""
