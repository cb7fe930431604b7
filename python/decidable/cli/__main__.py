"""``python -m decidable.cli``."""

import sys

from decidable.cli import main

sys.exit(main())
