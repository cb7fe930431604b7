"""``python -m decidable``."""

import sys

from decidable.cli import main

sys.exit(main())
