#!/usr/bin/env python3
"""Start the server: `bin/server.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from duplex.server.cli import main

if __name__ == "__main__":
    sys.exit(main())
