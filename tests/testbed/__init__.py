# SPDX-License-Identifier: Apache-2.0
"""The testbed: an emulated machine whose Linux has a real KVM."""
