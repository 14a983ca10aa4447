# SPDX-License-Identifier: Apache-2.0
"""The manual pages: prose from deploy/debian/man, and what the programs say of themselves."""

from scripts.package.manual.pages import PAGES, render

__all__ = ["PAGES", "render"]
