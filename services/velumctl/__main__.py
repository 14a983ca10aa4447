# SPDX-License-Identifier: Apache-2.0
"""``python -m velumctl``."""

from velumctl.main import main

main()
