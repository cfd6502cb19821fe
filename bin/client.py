#!/usr/bin/env python3
"""Talk to a server from the terminal: `bin/client.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from duplex.bench.client import main

if __name__ == "__main__":
    sys.exit(main())
