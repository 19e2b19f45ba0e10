"""`python -m graphs.kit.guard`."""

import sys

from .rules import main

sys.exit(main(sys.argv[1:]))
