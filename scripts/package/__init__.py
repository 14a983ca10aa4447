# SPDX-License-Identifier: Apache-2.0
"""Builds the Debian package, and the wheels that it is made of."""
