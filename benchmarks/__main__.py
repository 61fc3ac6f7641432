"""Run the measurements: `python -m benchmarks`."""

import sys

from benchmarks.synthesize import main

sys.exit(main())
