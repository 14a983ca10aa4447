# SPDX-License-Identifier: Apache-2.0
"""The commands; each module is loaded when one of its own is called."""
