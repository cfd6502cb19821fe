#!/usr/bin/env python3
"""How many calls a live server holds, and how soon it answers them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    from duplex.bench.load import main

    sys.exit(main())
