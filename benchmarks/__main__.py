"""`python -m benchmarks` is `python -m benchmarks.cpu`; other subjects: architectures, boxes, cpu_against, extraction,
gpu, page, rows, scale, store, torch_metrics.

In: the options of benchmarks/cpu.py. Out: its table.
Source: none.
"""

import sys

from benchmarks.cpu import main

if __name__ == "__main__":
    sys.exit(main())
