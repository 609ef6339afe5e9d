"""`python -m benchmarks` is `python -m benchmarks.cpu`; other subjects: gpu, store, scale, extraction, torch_metrics.

In: the options of benchmarks/cpu.py. Out: its table.
Source: none.
"""

import sys

from benchmarks.cpu import main

if __name__ == "__main__":
    sys.exit(main())
