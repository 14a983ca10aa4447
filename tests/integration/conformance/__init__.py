# SPDX-License-Identifier: Apache-2.0
"""The running server against its own specification, with requests made from that."""
