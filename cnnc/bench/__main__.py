"""``python -m cnnc.bench``."""

import sys

from cnnc.cli import main

sys.exit(main(["bench", *sys.argv[1:]]))
