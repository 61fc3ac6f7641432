"""Whether what this project claims is so: measured from data to table, on a CPU, by anyone.

`python -m benchmarks.proof --data FOLDER` makes datasets of training videos and photographs, trains
small networks that differ in one thing each, and measures them on pictures that no training saw.
Finished parts are kept, so that it can be interrupted and called again.
"""
