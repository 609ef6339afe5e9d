"""Processes and threads around native calls: forks, fresh processes, workers of torch's DataLoader, one engine.

In: calls on several threads, in a parent whose threads are at work or were. Out: the parent's integers in all of them.
Source: none.
"""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from shared import slow_but

from wsolkern import Evaluator, ops
from wsolkern.cams import CamStore, CamWriter, Manifest

NUM_MAPS = 24
BOX = np.array([[40, 30, 180, 200]])
NORMALIZATIONS = ["minmax", "ivr:0.45"]


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "3")


def cams(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((NUM_MAPS, 14, 14))


def count(seed: int) -> np.ndarray:
    return ops.count_box_hits(cams(seed), [BOX] * NUM_MAPS, NORMALIZATIONS, contours="both")[0]


def boxes(seed: int) -> list[np.ndarray]:
    return list(ops.localize(cams(seed), NORMALIZATIONS, [0.2]))


def histograms(seed: int) -> np.ndarray:
    return ops.count_pixels(cams(seed), np.ones((NUM_MAPS, 32, 32), np.uint8), NORMALIZATIONS, size=(32, 32))[0]


def everything(seed: int) -> list[np.ndarray]:
    return [count(seed), histograms(seed), *boxes(seed)]


def expect_same(found: list[np.ndarray], seed: int) -> None:
    for mine, theirs in zip(found, everything(seed), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("how", slow_but(["fork", "spawn"], ["fork", "spawn", "forkserver"]))
def test_processes_of_a_pool_count_what_their_parent_counts(how):
    everything(0)  # threads were at work in the parent
    with multiprocessing.get_context(how).Pool(2) as pool:
        parts = pool.map_async(everything, range(4)).get(120)
    for seed, found in enumerate(parts):
        expect_same(found, seed)


def test_an_executor_sends_evaluators_to_processes_and_back():
    parent = Evaluator(NORMALIZATIONS, boxes={number: BOX for number in range(4 * NUM_MAPS)})
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        parts = [pool.submit(counted, parent, seed) for seed in range(4)]
        found = [part.result(120) for part in parts]  # a task is pickled when a process is free for it
    for each in found:
        parent.merge(each)
    assert parent.num_images == 4 * NUM_MAPS
    np.testing.assert_array_equal(parent.num_correct, sum(count(seed) for seed in range(4)))


def counted(evaluator: Evaluator, seed: int) -> Evaluator:
    evaluator.update(cams(seed), range(seed * NUM_MAPS, (seed + 1) * NUM_MAPS))
    return evaluator


class Counts:
    """A data set whose items are counted in the worker that loads them."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> list[np.ndarray]:
        return everything(index)


@pytest.mark.parametrize(
    ("how", "persistent"), slow_but([("fork", False)], [("fork", False), ("fork", True), ("spawn", False)])
)
def test_workers_of_a_data_loader_count_what_their_parent_counts(how, persistent):
    data = pytest.importorskip("torch.utils.data")
    everything(0)
    workers = {"num_workers": 2, "multiprocessing_context": how, "persistent_workers": persistent, "timeout": 120}
    loader = data.DataLoader(Counts(), batch_size=None, collate_fn=list, **workers)
    for _ in range(1 if how == "spawn" else 2):
        for seed, found in enumerate(loader):
            expect_same([np.asarray(each) for each in found], seed)
        everything(1)  # and the parent between


def forked(work) -> int:
    """Forks; the child's exit code is 0 if ``work`` returns True in it."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.alarm(60)  # ends it if it hangs
        code = 0 if work() else 2
    finally:
        os._exit(code)


def test_a_child_forked_behind_pools_of_other_libraries_counts():
    """Behind OpenMP's threads, which torch and scikit-learn leave in the parent, and behind those that read a store."""
    torch = pytest.importorskip("torch")
    matrix = torch.randn(700, 700)
    assert (matrix @ matrix).isfinite().all()  # on OpenMP's threads
    expected = everything(0)
    children = [forked(lambda: all(map(np.array_equal, everything(0), expected))) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    expect_same(expected, 0)


def test_children_read_a_store_that_their_parent_is_reading(tmp_path):
    ids, maps = [f"{number}.jpg" for number in range(4 * NUM_MAPS)], np.concatenate([cams(seed) for seed in range(4)])
    with CamWriter(tmp_path / "store", Manifest(dataset="CUB", split="test"), maps_per_shard=16) as writer:
        writer.add(ids, maps.astype(np.float32))
    store = CamStore(tmp_path / "store")

    def read() -> bool:
        parts = [(part.image_ids, part.cams) for part in store.records(5)]
        found = np.concatenate([each for _, each in parts])
        return [each for some, _ in parts for each in some] == ids and np.array_equal(found, maps.astype(np.float32))

    reading, seen, children = store.source(ids).batches(5), 0, []
    for number, (_, batch) in enumerate(reading):
        seen += len(batch)
        if number in (1, 4):
            children.append(forked(read))
    assert seen == len(ids) and read()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


@pytest.mark.parametrize("others", slow_but([0], [0, 3]))
def test_a_forked_child_counts_while_its_parent_does(others):
    """Also where other threads of the parent are in a native call at that moment, and hold its locks."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            count(1)

    threads = [threading.Thread(target=work) for _ in range(others)]
    for thread in threads:
        thread.start()
    try:
        expected = everything(0)
        for _ in range(20 if others else 3):
            child = forked(lambda: all(map(np.array_equal, everything(0), expected)))
            expect_same(expected, 0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_many_threads_call_the_engine_at_once():
    expected = [everything(seed) for seed in range(3)]
    wrong, ready = [], threading.Barrier(12)

    def work(number: int) -> None:
        ready.wait()
        for turn in range(4):
            seed = (number + turn) % 3
            if not all(map(np.array_equal, everything(seed), expected[seed])):
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert wrong == []


def test_one_evaluator_is_fed_by_many_threads_of_an_executor():
    evaluator = Evaluator(NORMALIZATIONS, boxes={number: BOX for number in range(12 * NUM_MAPS)})
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda seed: counted(evaluator, seed), range(12)))
    assert evaluator.num_images == 12 * NUM_MAPS
    np.testing.assert_array_equal(evaluator.num_correct, sum(count(seed) for seed in range(12)))
