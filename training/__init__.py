"""The streaming trainer: reads shards by their manifest, knows nothing of the pipeline."""

import os

# Before torch is imported: its threads would spin while they wait, and take the cores from the
# processes that decode the next batch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
