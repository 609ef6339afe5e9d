"""``python -m wsolkern``, the command line; also how torchrun starts it.

In: arguments. Out: see :mod:`wsolkern.cli`.
Source: none.
"""

from wsolkern.cli import main

main()
