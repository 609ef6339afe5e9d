"""One count, whoever is asked: an Evaluator, a torchmetrics metric, the drop-in's evaluators and a study of a store.

In: random maps of seven kinds, the demo's CAMs; boxes, masks with ignored pixels, logits. Out: counts, all equal.
Source: none; the drop-in and the Evaluator answer to OpenCV in tests of their own.
"""

from types import SimpleNamespace

import cases
import numpy as np
import pytest
from PIL import Image
from shared import write_split

torch = pytest.importorskip("torch")
pytest.importorskip("torchmetrics", reason="needs the extra metrics")

from wsolkern import Evaluator  # noqa: E402
from wsolkern.cams import CamWriter, Manifest  # noqa: E402
from wsolkern.compat import data_loaders, evaluation  # noqa: E402
from wsolkern.datasets import load_metadata  # noqa: E402
from wsolkern.datasets.metadata import scale_boxes  # noqa: E402
from wsolkern.metrics import torch as metrics  # noqa: E402
from wsolkern.ops import normalize  # noqa: E402
from wsolkern.studies import evaluate  # noqa: E402

NORMALIZATIONS = (
    "minmax", "max", "pas:0.0", "pas:0.5", "pas:0.9", "ivr:0.0", "ivr:0.1", "ivr:0.45", "ivr:0.8", "ivr:0.97",
    "ivr:0.45+pas:0.9",
)  # fmt: skip
SIZE, IMAGE, NUM_CLASSES, NUM_MASKS, BATCH = (224, 224), (500, 375), 20, 7, 64
THRESHOLDS, PERCENTS = np.arange(0, 1, 0.001), (30, 50, 70)


def random_maps(num):
    """CAMs, and boxes in pixels of an image."""
    rng = np.random.default_rng(12)
    return cases.cams_of_one_size(num, (7, 7), seed=11).astype(np.float32), [
        np.concatenate([np.sort(rng.integers(0, side, 2)) for side in IMAGE])[[0, 2, 1, 3]] for _ in range(num)
    ]


def demo_maps():
    demo = pytest.importorskip("wsolkern.demo")
    try:
        cams, boxes = demo.demo_cams(resolution=224)[:2]
    except ImportError as error:
        pytest.skip(f"needs the extra demo: {error}")
    return cams, [(np.asarray(each)[0] * (IMAGE * 2) / 224).astype(int) for each in boxes]


MAPS = {"35 random maps": lambda: random_maps(35), "1,050 random maps": lambda: random_maps(1050), "demo": demo_maps}


@pytest.fixture(
    scope="module", params=["35 random maps", *(pytest.param(each, marks=pytest.mark.slow) for each in list(MAPS)[1:])]
)
def data(request, tmp_path_factory):
    """A store with logits, splits with boxes and with masks, and the same as arrays."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(4)
    cams, boxes = MAPS[request.param]()
    ids = [f"folder/{number}.jpg" for number in range(len(cams))]
    logits, labels = rng.normal(size=(len(ids), NUM_CLASSES)), rng.integers(0, NUM_CLASSES, len(ids))
    about = {"size": IMAGE, "label": labels.tolist().__getitem__}
    write_split(root / "boxes", ids, box=boxes.__getitem__, **about)
    files = {"mask": "{}.png".format, "ignore": "{}_ignore.png".format}
    files = {kind: (lambda n, name=name: name(n % NUM_MASKS)) for kind, name in files.items()}
    write_split(root / "masks", ids, **files, **about)
    drawn = np.kron(rng.integers(0, 3, (NUM_MASKS, 5, 6)), np.ones((1, 60, 50))).astype(np.uint8)
    for number, mask in enumerate(drawn):
        Image.fromarray((mask == 1).astype(np.uint8) * 255).save(root / f"{number}.png")
        Image.fromarray((mask == 2).astype(np.uint8) * 255).save(root / f"{number}_ignore.png")
    with CamWriter(root / "store", Manifest()) as writer:
        writer.add(ids, cams, logits=logits.astype(np.float32))
    return SimpleNamespace(root=root, ids=ids, cams=cams, logits=logits.astype(np.float32), labels=labels)


def truth_of(data, kind):
    """Of each image the boxes or the mask at SIZE."""
    if kind == "boxes":
        split = load_metadata(data.root / "boxes")
        return [scale_boxes(split.boxes[each], np.array([IMAGE]), SIZE) for each in data.ids]
    files = [(f"{n}.png", f"{n}_ignore.png") for n in range(NUM_MASKS)]
    masks = [evaluation.get_mask(str(data.root), [mask], ignored) for mask, ignored in files]
    return [masks[number % NUM_MASKS] for number in range(len(data.ids))]


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_four_doors_count_the_same(data, kind):
    truth, mask_root = truth_of(data, kind), data.root if kind == "masks" else None
    classes = {"logits": data.logits, "labels": data.labels} if kind == "boxes" else {}
    evaluator = Evaluator(NORMALIZATIONS, thresholds=THRESHOLDS, **{kind: dict(zip(data.ids, truth, strict=True))})
    evaluator.update(data.cams, data.ids, **classes)
    wanted = evaluator.compute()

    metric = {"boxes": metrics.MaxBoxAccV2, "masks": metrics.PxAP}[kind](NORMALIZATIONS, thresholds=THRESHOLDS)
    for start in range(0, len(data.ids), BATCH):
        part = slice(start, start + BATCH)
        some = {name: torch.from_numpy(values[part]) for name, values in classes.items()}
        metric.update(torch.from_numpy(data.cams[part]), truth[part], data.ids[part], **some)
    counts = {"boxes": ("num_correct", "num_localized"), "masks": ("hist",)}[kind]
    for name in (*counts, "num_degenerate"):
        np.testing.assert_array_equal(getattr(metric, name).numpy(), getattr(evaluator, name), strict=True)
    assert metric.result().to_dict(curves=True) == wanted.to_dict(curves=True)

    study = evaluate(
        data.root / "store", load_metadata(data.root / kind), NORMALIZATIONS, thresholds=THRESHOLDS,
        mask_root=mask_root, with_logits=kind == "boxes",
    )  # fmt: skip
    assert study.result.to_dict(curves=True) == wanted.to_dict(curves=True)

    for number, normalization in enumerate(NORMALIZATIONS):
        for several in (False, True)[: 2 if kind == "boxes" else 1]:
            there = drop_in(data, kind, normalization, several)
            if kind == "masks":
                found = np.stack([there.gt_true_score_hist, there.gt_false_score_hist])
                np.testing.assert_array_equal(found, evaluator.hist[number])
                assert there.compute() == wanted[normalization].pxap
                continue
            for at, percent in enumerate(PERCENTS):
                hits = evaluator.num_correct[int(several), number, at], there.num_correct[percent]
                np.testing.assert_array_equal(*hits)
                first = evaluator.num_localized[0, int(several), number, at], there.num_correct_top1[percent]
                np.testing.assert_array_equal(*first)
            row = wanted[normalization]
            assert there.compute() == list((row.max_box_acc_v2_per_iou if several else row.max_box_acc).values())


def drop_in(data, kind, normalization, several):
    """The published evaluator's replacement after all maps, as score maps, one by one."""
    made = {"boxes": evaluation.BoxEvaluator, "masks": evaluation.MaskEvaluator}[kind](
        metadata=data_loaders.configure_metadata(str(data.root / kind)),
        dataset_name={"boxes": "CUB", "masks": "OpenImages"}[kind],
        split="test",
        cam_threshold_list=list(THRESHOLDS),
        iou_threshold_list=PERCENTS,
        mask_root=str(data.root),
        multi_contour_eval=several,
    )
    right = data.logits.argmax(axis=1) == data.labels
    for start in range(0, len(data.ids), BATCH):
        part = slice(start, start + BATCH)
        scores = normalize(data.cams[part], normalization, SIZE)
        for score_map, image_id, is_right in zip(scores, data.ids[part], right[part], strict=True):
            made.accumulate(score_map, image_id, **({"correct": bool(is_right)} if kind == "boxes" else {}))
    return made
