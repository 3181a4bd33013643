"""``python -m rangeseg``: the command where the script is not on the path."""

import sys

from rangeseg.cli import main

sys.exit(main())
