#!/usr/bin/env python3
"""Answer recordings with a checkpoint, without a server."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from duplex.engine.inference import main

if __name__ == "__main__":
    sys.exit(main())
