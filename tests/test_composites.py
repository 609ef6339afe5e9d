"""The experiment on composites: its images are what it says, and its figures are the Evaluator's.

In: objects of the demo's photographs, random maps. Out: assertions. Source: benchmarks/experiments/composites.py.
"""

import numpy as np
import pytest

from benchmarks.experiments import composites
from wsolkern.metrics import Evaluator


@pytest.fixture(scope="module")
def images():
    return composites.make_composites("test", 1, seed=3)


def test_splits_share_no_object_and_no_background():
    for parts in (composites.OBJECTS, composites.BACKGROUNDS):
        assert not set(parts["val"]) & set(parts["test"])


def test_an_object_is_where_its_mask_is(images):
    assert len({image.image_id for image in images}) == len(images) == 5 * 6
    package, file = composites.BACKGROUNDS["test"][0]
    background = np.asarray(composites._background(package, file))
    on_it = [image for image in images if image.group == f"flower-on-{file.split('/')[-1].split('.')[0]}"]
    assert len(on_it) == 1
    for image in on_it:
        differs = (image.pixels != background).any(2)
        x0, y0, x1, y1 = composites.box_of(image.mask)[0]
        ys, xs = np.nonzero(differs)
        for found, expected in zip((xs.min(), ys.min(), xs.max(), ys.max()), (x0, y0, x1, y1), strict=True):
            assert abs(int(found) - int(expected)) <= 2  # its edge is half transparent
        assert (differs & (image.mask == 1)).sum() > 0.99 * image.mask.sum()


@pytest.mark.slow
def test_its_accuracy_is_the_evaluators(images, rng):
    cams = rng.standard_normal((len(images), 7, 7)).astype(np.float32)
    names = ["minmax", "ivr:0.40"]
    found = composites.score(cams, images, names)
    boxes = {image.image_id: box for image in images for box in [composites.box_of(_mask(image))]}
    evaluator = Evaluator(names, boxes=boxes)
    evaluator.update(cams, list(boxes))
    expected = evaluator.compute()
    once = composites.max_box_acc_v2(found.hits, np.ones((1, len(images)), np.float32))[0]
    assert once == pytest.approx([expected[name].max_box_acc_v2 / 100 for name in names], abs=1e-12)


def test_a_group_is_drawn_as_one():
    groups = ["b", "a", "b", "c"]
    weights = composites.group_weights(groups, 50, seed=0)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    assert (weights == 0).any()


@pytest.mark.slow
def test_the_percentile_is_chosen_on_val_and_a_lead_over_itself_is_none(images, rng):
    cams = rng.random((len(images), 7, 7)).astype(np.float32)
    names = [*composites.FIXED, *(spec for specs in composites.CHOSEN.values() for spec in specs)]
    scores = composites.score(cams, images, names)
    rows = composites.compare(scores, scores, [image.group for image in images], 20, seed=0)
    assert [row["normalization"].split(":")[0] for row in rows] == ["minmax", "max", "pas", "ivr"]
    for row in rows:  # val is test here
        assert row["max_box_acc_v2"] == row["best_of_family_on_test"]
    assert rows[-1]["ivr_lead"] == 0 and rows[-1]["ivr_lead_interval"] == [0, 0]


def _mask(image):
    """As it is evaluated."""
    from PIL import Image

    size = (composites.SIZE, composites.SIZE)
    return np.asarray(Image.fromarray(image.mask).resize(size, Image.Resampling.NEAREST))
