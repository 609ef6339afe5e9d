"""Splits counted from folders and stores: what is left out, what stops, what goes on, and what must not change.

In: generated maps, boxes and masks in real folders and stores. Out: counts, compared with one undisturbed Evaluator.
Source: the Evaluator, fed directly, is what any number of interruptions must equal.
"""

import os
import signal
import time

import numpy as np
import pytest
from PIL import Image
from shared import write_split

from wsolkern import Evaluator
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.datasets import MapFolder, load_metadata
from wsolkern.studies.counting import SplitCount, count_maps, evaluator_for, fingerprint

NUM_IMAGES = 60
IDS = [f"part/{index}.jpg" for index in range(NUM_IMAGES)]
NAMES = ("minmax", "max", "pas:0.9", "ivr:0.3")
HOW = {"size": (20, 24), "thresholds": np.arange(0, 1, 0.05)}


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """60 images of 200 x 150 pixels with a box each."""
    folder = tmp_path_factory.mktemp("metadata")
    return load_metadata(write_split(folder, IDS, size=(200, 150), box=lambda i: (10 + i, 20, 100 + i, 120)))


@pytest.fixture(scope="module")
def cams():
    rng = np.random.default_rng(0)
    return {each: rng.normal(size=(3 + i % 2, 5)).astype(np.float32) for i, each in enumerate(IDS)}


@pytest.fixture(scope="module")
def store(cams, tmp_path_factory):
    """The maps as a store; the last one is missing."""
    path = tmp_path_factory.mktemp("runs") / "store"
    with CamWriter(path, Manifest(), maps_per_shard=7) as writer:
        for image_id in IDS[:-1]:
            writer.add([image_id], cams[image_id][None])
    return path


@pytest.fixture(scope="module")
def whole(split, cams) -> Evaluator:
    """The counts of all maps but the last, one update each."""
    evaluator = evaluator_for(split, NAMES, **HOW)
    for image_id in IDS[:-1]:
        evaluator.update(cams[image_id][None], [image_id])
    return evaluator


def begin(split) -> SplitCount:
    return SplitCount(evaluator_for(split, NAMES, **HOW), split.image_ids, fingerprint(split, None, "maps"))


def test_the_state_is_saved_in_between(split, store, whole, tmp_path):
    state, was_there = tmp_path / "state", []
    counting = begin(split)
    source = CamStore(store).source(IDS)
    counting.run(source, state=state, save_seconds=0, batch_size=7, progress=lambda _: was_there.append(state.exists()))
    assert was_there[0] is False and all(was_there[1:]) and len(was_there) > 5 and counting.evaluator == whole


def test_a_state_that_cannot_be_saved_ends_the_run_unless_somebody_listens(split, store, whole, tmp_path):
    source, state, errors = CamStore(store).source(IDS), tmp_path / "no folder" / "state", []
    with pytest.raises(FileNotFoundError, match="no folder"):
        begin(split).run(source, state=state)
    counting = begin(split)
    counting.run(source, state=state, on_save_error=errors.append)
    assert [type(each) for each in errors] == [FileNotFoundError] and counting.evaluator == whole


def test_a_store_and_a_folder_give_the_same_counts(split, cams, store, whole, tmp_path):
    (tmp_path / "part").mkdir()
    for image_id in IDS[:-1]:
        np.save(tmp_path / f"{image_id}.npy", cams[image_id])
    for source in (CamStore(store).source(split.image_ids), MapFolder(tmp_path, split.image_ids)):
        evaluator = evaluator_for(split, NAMES, **HOW)
        assert list(count_maps(evaluator, source)) == [IDS[-1]]
        assert evaluator == whole


def test_a_refused_map_costs_no_other(split, cams, tmp_path):
    with CamWriter(tmp_path / "store", Manifest()) as writer:
        for image_id in IDS:
            writer.add([image_id], np.zeros((1, 20, 24)) + (2.0 if image_id == IDS[7] else 0.5))
    evaluator, seen = evaluator_for(split, None, **HOW), []
    problems = count_maps(
        evaluator, CamStore(tmp_path / "store").source(IDS), on_batch=lambda ids, maps: seen.extend(ids)
    )
    assert list(problems) == [IDS[7]] and "[0, 1]" in problems[IDS[7]] and "image" not in problems[IDS[7]]
    assert evaluator.num_images == NUM_IMAGES - 1 and sorted(seen) == sorted(set(IDS) - {IDS[7]})


def test_masks_are_counted_too(tmp_path):
    write_split(tmp_path / "metadata", ["a"], mask="a.png")
    Image.fromarray(np.pad(np.full((5, 6), 255, np.uint8), 4)).save(tmp_path / "a.png")
    split = load_metadata(tmp_path / "metadata")
    with pytest.raises(ValueError, match="mask_root: needed"):
        evaluator_for(split, NAMES, **HOW)
    evaluator = evaluator_for(split, NAMES, mask_root=tmp_path, **HOW)
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(3, 4))
    assert count_maps(evaluator, MapFolder(tmp_path, ["a"])) == {}
    assert evaluator.hist.sum() == len(NAMES) * 20 * 24


def test_boxes_take_no_mask_root(split, tmp_path):
    with pytest.raises(ValueError, match="mask_root: .* localizes objects with boxes"):
        evaluator_for(split, NAMES, mask_root=tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop_after", [1, 2, 17, 59])
def test_an_interrupted_count_keeps_all_of_it(split, store, whole, tmp_path, number, stop_after):
    first, calls = begin(split), []

    def progress(done: int) -> None:
        calls.append(done)
        if len(calls) == stop_after:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        first.run(CamStore(store).source(first.remaining), batch_size=1, progress=progress)
    assert first.evaluator.num_images == stop_after == NUM_IMAGES - len(first.remaining)
    first.save(tmp_path / "state")
    second = begin(split)
    second.load(tmp_path / "state")
    assert second.remaining == first.remaining and second.evaluator == first.evaluator
    second.run(CamStore(store).source(second.remaining))
    assert second.evaluator == whole and second.remaining == (IDS[-1],)


def test_signals_have_their_handlers_back_afterwards(split, store):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    begin(split).run(CamStore(store).source(IDS))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_sixty_kills_change_no_count(split, store, whole, tmp_path, draws):
    """Real processes, each killed (SIGKILL) a random time after it began, saving after every batch."""
    state, kills, worked = tmp_path / "state", 0, 0
    while kills < 60 or worked <= 10:  # on a busy machine more of them come before there is anything to kill
        assert kills < 1000
        before = state.read_bytes() if state.exists() else None
        child = os.fork()
        if child == 0:  # a copy of this process; it must not run the rest of the tests
            try:
                counting = begin(split)
                if state.exists():
                    counting.load(state)
                source = CamStore(store).source(counting.remaining)
                counting.run(source, state=state, save_seconds=0, batch_size=1, progress=lambda _: time.sleep(0.002))
            finally:
                os._exit(0)
        time.sleep(draws.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):  # done before the kill: begin anew
            again = begin(split)
            again.load(state)
            assert again.evaluator == whole
            state.unlink()
            continue
        kills += 1
        worked += state.exists() and state.read_bytes() != before
    last = begin(split)
    if state.exists():
        last.load(state)
    assert list(last.run(CamStore(store).source(last.remaining), state=state)) == [IDS[-1]]
    assert last.evaluator == whole


def test_states_of_other_things_are_refused(split, store, tmp_path):
    counting = begin(split)
    counting.run(CamStore(store).source(IDS[:5]), state=tmp_path / "state")
    other = SplitCount(evaluator_for(split, NAMES, **HOW), split.image_ids, fingerprint(split, None, "other maps"))
    with pytest.raises(ValueError, match="counts other maps, .*; delete the file to start anew"):
        other.load(tmp_path / "state")
    other = SplitCount(evaluator_for(split, NAMES), split.image_ids, counting.job)
    with pytest.raises(ValueError, match="expected the same"):
        other.load(tmp_path / "state")
    (tmp_path / "text").write_text("no state")
    with pytest.raises(ValueError, match="text: expected saved counts of a split, found another file"):
        begin(split).load(tmp_path / "text")
    (tmp_path / "cut").write_bytes((tmp_path / "state").read_bytes()[:-30])
    with pytest.raises(ValueError, match="cut: expected saved counts"):
        begin(split).load(tmp_path / "cut")
    with pytest.raises(FileNotFoundError):
        begin(split).load(tmp_path / "nowhere")


def test_fingerprints_tell_maps_and_ground_truth_apart(split, tmp_path):
    found = {fingerprint(split, None, "a"), fingerprint(split, None, "b"), fingerprint(split, tmp_path, "a")}
    assert len(found) == 2  # boxes have no masks: the mask root does not matter
