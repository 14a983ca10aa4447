# SPDX-License-Identifier: Apache-2.0
"""``python -m api_server``."""

import sys

from api_server.main import main

sys.exit(main())
