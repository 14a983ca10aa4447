# SPDX-License-Identifier: Apache-2.0
"""Builds the Debian guest and prints where its files are."""

from dataclasses import fields

from tests.guests.debian import debian

guest = debian()
for field in fields(guest):
    print(f"{field.name.upper()}={getattr(guest, field.name)}")
