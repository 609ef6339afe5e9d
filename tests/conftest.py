"""Where pytest begins: what its processes and those that tests start have in common.

In: pytest's options. Out: the environment; the fixtures of everywhere.py, where tests run.
Source: none.
"""

import os
import signal
from pathlib import Path


def pytest_configure(config):
    """Processes that tests start can import shared.py, too; Ctrl-C, which a shell's background jobs ignore, counts.

    The process that hands tests to others (``-n``) runs none, and does without what they import.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.getenv("PYTHONPATH")])])
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" in os.environ or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("everywhere")
