"""`python -m graphs.kit.guard`."""

import sys

from graphs.kit.guard.rules import main

sys.exit(main(sys.argv[1:]))
