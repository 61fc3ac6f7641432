"""For all tests."""

import os

# Tests run side by side. More threads than cores wait for one another: ten times as long.
os.environ["OMP_NUM_THREADS"] = "1"
