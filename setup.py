# SPDX-License-Identifier: Apache-2.0
"""Builds the C core; everything else about the distribution is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["native/kvm_shim/build_native.py:ffibuilder"])
