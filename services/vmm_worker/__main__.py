# SPDX-License-Identifier: Apache-2.0
"""``python -m vmm_worker`` is ``velum-vmm``."""

import sys

from vmm_worker.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
