"""Readers that nobody reads to the end, and that the garbage collector finds at an awkward moment.

In: iterators in reference cycles, as a traceback makes them. Out: a process that goes on.
Source: none.
"""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from wsolkern.cams import CamWriter, Manifest

NAMES = [f"{number}.png" for number in range(40)]
# A thread that starts or ends takes this lock, and what allocates under it may set off a collection.
FORGET = """
import gc, sys, threading
from wsolkern.cams import CamStore
from wsolkern.datasets import ImageFolder, MapFolder

path, names = sys.argv[1], sys.argv[2:]
reader = {reader}
next(reader)
cycle = [reader]
cycle.append(cycle)
del reader, cycle
with threading._active_limbo_lock:
    gc.collect()
for thread in threading.enumerate()[1:]:
    thread.join(10)
print(threading.active_count())
"""
READERS = {
    "images": "ImageFolder(path, names).batches(2)",
    "maps": "MapFolder(path, names).batches(2)",
    "store": "CamStore(path).records(2)",
}


@pytest.fixture
def folder(tmp_path):
    with CamWriter(tmp_path, Manifest(), maps_per_shard=4) as writer:
        writer.add(NAMES, np.ones((len(NAMES), 2, 2), np.float32))
    for name in NAMES:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
        np.save(tmp_path / f"{name}.npy", np.ones((2, 2)))
    return tmp_path


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_that_is_forgotten_waits_for_no_thread(folder, reader):
    code = FORGET.format(reader=READERS[reader])
    done = subprocess.run([sys.executable, "-c", code, folder, *NAMES], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "1\n"
