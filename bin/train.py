#!/usr/bin/env python3
"""Train every part of a checkpoint from nothing, on speech synthesized here; and evaluate one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from duplex.train.cli import main

if __name__ == "__main__":
    sys.exit(main())
