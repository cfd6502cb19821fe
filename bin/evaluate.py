#!/usr/bin/env python3
"""Measure a live server: `bin/evaluate.py make FOLDER` makes a test set, `bin/evaluate.py FOLDER` runs it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        from duplex.train.testset import main

        sys.exit(main(sys.argv[2:]))
    from duplex.bench.evaluate import main

    sys.exit(main())
