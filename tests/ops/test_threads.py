"""Many threads on one evaluator: no count is lost, and whoever reads sees whole batches only.

In: small CAMs, updates from 16 threads at once. Out: the counts of one thread.
Source: none.
"""

import copy
import os
import pickle
import sys
import threading

import numpy as np
import pytest

from wsolkern import Evaluator, Normalization
from wsolkern.metrics import sealed
from wsolkern.metrics.bootstrap import BootstrapEvaluator
from wsolkern.metrics.evaluator import _FORMAT
from wsolkern.studies.counting import SplitCount

NUM_THREADS = 16
SIZE = (8, 9)
IDS = [f"{number}.jpg" for number in range(64)]
RNG = np.random.default_rng(0)
CAMS = RNG.normal(size=(len(IDS), 3, 4)).astype(np.float32)


class OfRounds(dict):
    """What images have, by id; the image (round, id) has the same as id."""

    def __contains__(self, image_id: object) -> bool:
        return super().__contains__(image_id[1] if isinstance(image_id, tuple) else image_id)

    def __missing__(self, image_id):
        return self[image_id[1]]


BOXES = {each: np.array([[1, 1, 5, 4 + number % 3]]) for number, each in enumerate(IDS)}
MASKS = {each: RNG.choice(np.array([0, 1, 255], np.uint8), SIZE) for each in IDS}
MASKS[IDS[0]][0, 0] = 1
HOW = {"boxes": OfRounds(BOXES), "masks": OfRounds(MASKS), "size": SIZE, "thresholds": np.arange(0, 1, 0.0002)}


@pytest.fixture(autouse=True)
def switching(monkeypatch):
    """Threads take turns as often as they can, and each call of the core has one of its own."""
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "1")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def make(**other) -> Evaluator:
    return Evaluator([Normalization("ivr", ivr=p) for p in np.arange(0, 1, 0.1)], **{**HOW, **other})


def at_once(work, num: int = NUM_THREADS) -> None:
    """Calls ``work`` with 0, 1, ... in as many threads; an exception in one of them is raised."""
    raised, ready = [], threading.Barrier(num)

    def one(number: int) -> None:
        try:
            ready.wait()
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(num)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if raised:
        raise raised[0]


def quarter(number: int) -> slice:
    return slice(number * 4, number * 4 + 4)


def ids(number: int, part: slice = slice(None)) -> list:
    """Those of a round: of the first plain ones."""
    return [(number, each) if number else each for each in IDS[part]]


def serial(rounds: int, **other) -> Evaluator:
    evaluator = make(**other)
    for number in range(rounds):
        evaluator.update(CAMS, ids(number))
    return evaluator


def of_unknown_images(evaluator: Evaluator) -> Evaluator:
    """The same counts, as they are in files from before evaluators knew which images they counted."""
    content = evaluator.to_bytes()
    header, arrays = sealed.unseal(content, _FORMAT, ("num_images", "size", "normalizations"), ("box_rule",))
    del arrays["image_keys"]
    return Evaluator.from_bytes(sealed.seal(header, arrays))


@pytest.mark.parametrize("truth", [{}, {"boxes": None}, {"masks": None}], ids=["both", "masks", "boxes"])
def test_no_count_is_lost(truth):
    evaluator = make(**truth)

    def work(number: int) -> None:
        for turn in range(6):
            evaluator.update(CAMS[quarter(number)], ids(turn, quarter(number)))

    at_once(work)
    assert evaluator.num_images == 6 * len(IDS) and evaluator == serial(6, **truth)


@pytest.mark.slow
def test_readers_see_whole_batches():
    evaluator, one_batch = make(), make()
    one_batch.update(CAMS[quarter(0)], IDS[quarter(0)])
    done = threading.Event()

    def check(seen: Evaluator) -> None:
        times, rest = divmod(seen.num_images, 4)
        assert rest == 0
        for name in ("num_degenerate", "num_correct", "hist"):
            np.testing.assert_array_equal(getattr(seen, name), times * getattr(one_batch, name))

    def work(number: int) -> None:
        if number < 4:
            for turn in range(40):
                evaluator.update(CAMS[quarter(0)], ids(number * 40 + turn, quarter(0)))
            done.set()
        while not done.is_set():
            if number == 4:
                check(Evaluator.from_bytes(evaluator.to_bytes()))
            elif number == 5:
                check(copy.copy(evaluator))
            elif number == 6:
                merged = make()
                merged.merge(evaluator)
                check(merged)
            elif number == 7 and evaluator.num_images:
                result = evaluator.compute()
                # Counts of one batch, repeated: the figures are always the same.
                expected = one_batch.compute().to_dict(curves=True)
                for mine, theirs in zip(
                    result.to_dict(curves=True)["normalizations"], expected["normalizations"], strict=True
                ):
                    assert {**mine, "num_degenerate": 0} == {**theirs, "num_degenerate": 0}

    at_once(work, 8)
    assert evaluator.num_images == 4 * 40 * 4
    check(evaluator)


def test_counts_are_read_only():
    evaluator = serial(1)
    for name in ("num_degenerate", "num_correct", "hist"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(evaluator, name)[...] = 0
    before = evaluator.num_correct.copy()
    kept = evaluator.num_correct
    evaluator.update(CAMS, ids(1))
    np.testing.assert_array_equal(kept, before)


def test_merging_both_ways_at_once_ends():
    left, right = of_unknown_images(serial(1)), of_unknown_images(serial(2))

    def work(number: int) -> None:
        for _ in range(200):
            (left if number else right).merge(right if number else left)
            if left.num_images > 1 << 40:  # counts double each time
                return

    at_once(work, 2)
    for evaluator in (left, right):
        times = evaluator.num_images // len(IDS)
        np.testing.assert_array_equal(evaluator.hist, times * serial(1).hist)
        np.testing.assert_array_equal(evaluator.num_correct, times * serial(1).num_correct)


def test_merging_from_many_threads_loses_nothing():
    evaluator, part = make(), of_unknown_images(serial(1))
    at_once(lambda _: [evaluator.merge(part) for _ in range(5)])
    assert evaluator.num_images == 5 * NUM_THREADS * len(IDS)
    np.testing.assert_array_equal(evaluator.num_correct, 5 * NUM_THREADS * part.num_correct)
    np.testing.assert_array_equal(evaluator.hist, 5 * NUM_THREADS * part.hist)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_count_on_their_own(way):
    evaluator = serial(1)
    twin = way(evaluator)
    assert twin == evaluator
    twin.update(CAMS, ids(1))
    assert twin == serial(2) and evaluator == serial(1)


@pytest.mark.slow
def test_a_child_forked_while_others_count_can_count():
    evaluator, done = make(), threading.Event()

    def work(number: int) -> None:
        if number:
            while not done.is_set():
                evaluator.merge(part)
            return
        try:
            for _ in range(15):
                child = os.fork()
                if child == 0:
                    code = 1
                    try:
                        before = evaluator.num_images
                        evaluator.merge(part)
                        times = evaluator.num_images // len(IDS)
                        fine = evaluator.num_images == before + len(IDS)
                        code = 0 if fine and (evaluator.hist == times * part.hist).all() else 2
                    finally:
                        os._exit(code)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            done.set()

    part = of_unknown_images(serial(1))
    at_once(work, 3)


def bootstrap(evaluator, metric):
    return BootstrapEvaluator(evaluator.protocol, evaluator.truth, metric, IDS, backend=evaluator.backend)


@pytest.mark.parametrize("metric", ["MaxBoxAccV2", "PxAP"])
def test_the_bootstrap_loses_no_image(metric):
    how = {"thresholds": np.arange(0, 1, 0.02)}
    alone, shared = (bootstrap(make(**how), metric) for _ in range(2))
    alone.update(CAMS, IDS)
    expected = alone.compute(200)

    def work(number: int) -> None:
        for index in range(number * 4, number * 4 + 4):
            shared.update(CAMS[index : index + 1], IDS[index : index + 1])
            if number % 4 == 0:
                found = shared.compute(40)
                assert 0 < found.num_images <= len(IDS) and np.isfinite(found.figures).all()

    at_once(work)
    found = shared.compute(200)
    assert found.num_images == len(IDS)
    np.testing.assert_array_equal(found.figures, expected.figures)
    np.testing.assert_array_equal(found.resampled, expected.resampled)


def test_of_two_threads_with_one_image_the_bootstrap_takes_one():
    shared, refused = bootstrap(make(), "MaxBoxAccV2"), []

    def work(_: int) -> None:
        try:
            shared.update(CAMS[:1], IDS[:1])
        except ValueError as error:
            refused.append(str(error))

    at_once(work)
    assert shared.num_images == 1 and len(refused) == NUM_THREADS - 1 and "found it a second time" in refused[0]


def test_a_split_saves_whole_batches_only(tmp_path):
    counting = SplitCount(make(masks=None), IDS, "job")

    def work(number: int) -> None:
        if number < 8:
            for index in range(number * 8, number * 8 + 8, 2):
                counting.update(CAMS[index : index + 2], IDS[index : index + 2])
            return
        while len(counting.remaining) > 0:
            counting.save(tmp_path / str(number))
            again = SplitCount(make(masks=None), IDS, "job")
            again.load(tmp_path / str(number))
            alone = make(masks=None)
            counted = [index for index, each in enumerate(IDS) if each not in again.remaining]
            alone.update(CAMS[counted], [IDS[index] for index in counted])
            assert again.evaluator == alone

    at_once(work, 10)
    assert counting.evaluator == serial(1, masks=None)
    with pytest.raises(ValueError, match="image '3.jpg': expected it once, found it a second time"):
        counting.update(CAMS[3:4], IDS[3:4])
    with pytest.raises(ValueError, match="image 'x': expected one of 64 images, found another one"):
        counting.update(CAMS[3:4], ["x"])
