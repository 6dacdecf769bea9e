"""``python -m cnnc`` is the command ``cnnc``."""

from __future__ import annotations

import sys

from cnnc.cli import main

if __name__ == "__main__":
    sys.exit(main())
