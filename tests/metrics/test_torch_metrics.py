"""The torchmetrics classes and their functional twins: what the Evaluator says, in every way that torchmetrics is used.

In: small CAMs, random ones, the demo's, with boxes and masks; processes that torch.distributed connects. Out: figures.
Source: torchmetrics' own tests (a table over processes, types, devices, pickling, forward and clones).
"""

import copy
import importlib.util
import json
import pickle
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pytest
import torchvision_operators
from shared import later

torch = pytest.importorskip("torch")
torchvision_operators.declare()  # for the processes that are started below
if importlib.util.find_spec("torchmetrics") is None:
    pytest.skip("needs the extra metrics", allow_module_level=True)
torchmetrics, metrics = later("torchmetrics"), later("wsolkern.metrics.torch")

from wsolkern.metrics import Evaluator, functional, pointing  # noqa: E402
from wsolkern.ops import resize  # noqa: E402

SIZE = (21, 20)
NORMALIZATIONS = ("minmax", "max", "pas:0.9", "ivr:0.45", "ivr:0.45+pas:0.9")
HOW = {"thresholds": np.arange(0, 1, 0.05), "size": SIZE}
CAMS, BOXES, MASKS = cases.batch()
IDS = [f"folder/{index}.jpg" for index in range(len(CAMS))]
ALL = slice(None)

LOGITS = np.random.default_rng(5).normal(size=(len(CAMS), 7))
LABELS = np.array([0, 1, 2, 3, 4, 5, 6, 0, 1])


def top_5(result):
    return {row.name: figures[1].figure for row, figures in zip(result, result.localization(), strict=True)}


def of_rows(figure):
    return lambda result: {row.name: figure(row) for row in result}


# By class: its ground truth, the figures of a Result by normalization, its twin, and its arguments beyond the usual.
TABLE = {
    "MaxBoxAcc": ("boxes", of_rows(lambda row: row.max_box_acc[0.5]), functional.max_box_acc, {}),
    "MaxBoxAccV2": ("boxes", of_rows(lambda row: row.max_box_acc_v2), functional.max_box_acc_v2, {}),
    "TopKLocalization": ("boxes", top_5, functional.top_k_localization, {"top": 5}),
    "PxAP": ("masks", of_rows(lambda row: row.pxap), functional.pxap, {}),
    "PixelIoU": ("masks", of_rows(lambda row: row.peak_iou), functional.pixel_iou, {}),
}
TRUTH = {"boxes": BOXES, "masks": MASKS}

every_metric = pytest.mark.parametrize("name", TABLE)


def make(name, normalizations=NORMALIZATIONS, **how):
    return getattr(metrics, name)(normalizations, **(HOW | TABLE[name][3] | how))


def classified(name, part=ALL):
    return {"logits": LOGITS[part], "labels": LABELS[part]} if name == "TopKLocalization" else {}


def batch(name, part=ALL, cams=CAMS):
    """The arguments of an update."""
    return cams[part], TRUTH[TABLE[name][0]][part], IDS[part], *classified(name, part).values()


def fed(metric, name, *parts):
    for part in parts or [slice(4), slice(4, 5), slice(5, None)]:
        metric.update(*batch(name, part))
    return metric


def evaluated(name, part=ALL, normalizations=NORMALIZATIONS, cams=CAMS, **how):
    """The Evaluator's result."""
    kind = TABLE[name][0]
    truth = {kind: dict(zip(IDS[part], TRUTH[kind][part], strict=True))}
    evaluator = Evaluator(normalizations, **truth, **(HOW | how))
    evaluator.update(cams[part], IDS[part], **classified(name, part))
    return evaluator.compute()


def expected(name, part=ALL, normalizations=NORMALIZATIONS, cams=CAMS, **how):
    """What the Evaluator says."""
    return TABLE[name][1](evaluated(name, part, normalizations, cams, **how))


def values(figures):
    assert all(each.dtype == torch.float64 and each.shape == () for each in figures.values())
    return {name: each.item() for name, each in figures.items()}


@every_metric
def test_a_metric_is_what_the_evaluator_says(name):
    assert values(fed(make(name), name).compute()) == expected(name)
    one = fed(make(name, "ivr:.45"), name).compute()
    assert (one.dtype, one.shape, one.item()) == (torch.float64, (), expected(name)["ivr:0.45"])
    twin, given = TABLE[name][2], (*batch(name)[1:2], *batch(name)[3:])
    how = HOW | TABLE[name][3]
    assert values(twin(CAMS, *given, NORMALIZATIONS, **how)) == expected(name)
    assert twin(torch.from_numpy(CAMS), *given, "max", **how).item() == expected(name)["max"]


@pytest.mark.parametrize("name", ["MaxBoxAcc", "MaxBoxAccV2", "TopKLocalization"])
def test_a_metric_of_another_box_rule(name):
    rule = {"box_rule": "ts-cam"}
    wanted = expected(name, normalizations="minmax", **rule)["minmax"]
    assert fed(make(name, "minmax", **rule), name).compute().item() == wanted
    given = *batch(name)[1:2], *batch(name)[3:]
    assert TABLE[name][2](CAMS, *given, "minmax", **(HOW | TABLE[name][3] | rule)).item() == wanted


@every_metric
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_type_of_cams(name, dtype):
    cams = torch.from_numpy(CAMS).to(getattr(torch, dtype))
    metric = make(name)
    metric.update(*batch(name, cams=cams.requires_grad_()))
    assert values(metric.compute()) == expected(name, cams=cams.detach().double().numpy())


@every_metric
def test_score_maps(name):
    rng = np.random.default_rng(3)
    scores = rng.random((len(CAMS), *SIZE))
    metric = make(name, None)
    metric.update(*batch(name, cams=scores))
    assert metric.compute().item() == expected(name, normalizations=None, cams=scores)["score maps"]
    scores[3, 2, 1] = 1.5
    with pytest.raises(ValueError, match=f"image '{IDS[3]}': .*found 1.5 at row 2, column 1"):
        make(name, None).update(*batch(name, cams=scores))


@every_metric
def test_forward_is_the_batch_alone_and_counts_it(name):
    metric = make(name)
    for part in (slice(4), slice(4, 7), slice(7, None)):
        assert values(metric(*batch(name, part))) == expected(name, part)
    assert values(metric.compute()) == expected(name) and metric.num_images == len(IDS)


@every_metric
def test_reset_forgets_all(name):
    metric = fed(make(name), name)
    metric.reset()
    assert metric.num_images == 0 and not metric.update_called
    with pytest.raises(ValueError, match="no image was counted yet"), pytest.warns(UserWarning, match="before"):
        metric.compute()
    assert values(fed(metric, name, slice(2, 6)).compute()) == expected(name, slice(2, 6))


@every_metric
def test_clones_pickles_and_state_dicts(name):
    metric = fed(make(name), name, slice(5))
    metric.persistent(True)
    loaded = make(name)
    loaded.load_state_dict(metric.state_dict())
    others = [metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), loaded]
    for each in others:
        assert each is loaded or values(each.compute()) == expected(name, slice(5))
        assert values(fed(each, name, slice(5, None)).compute()) == expected(name)
    assert values(metric.compute()) == expected(name, slice(5))
    with pytest.raises(RuntimeError, match="settings: expected counts of a metric of the same settings"):
        make(name, ["max"]).load_state_dict(metric.state_dict())


@every_metric
def test_states_are_integers_whatever_the_type_and_sums(name):
    metric = fed(make(name), name)
    for changed in (metric.half(), metric.double(), metric.bfloat16(), metric.set_dtype(torch.float16)):
        assert changed is metric
    assert {state.dtype for key, state in metric.metric_state.items() if key not in ("settings", "image_keys")} == {
        torch.int64
    }
    assert values(metric.compute()) == expected(name)
    left, right = fed(make(name), name, slice(3)), fed(make(name), name, slice(3, None))
    left.merge_state(right)
    assert values(left.compute()) == expected(name)
    with pytest.raises(ValueError, match="metrics of different settings were added"):
        left.merge_state(fed(make(name, thresholds=[0]), name, slice(1)))
    assert values(left.compute()) == expected(name)


@every_metric
def test_an_image_counts_once(name):
    metric = make(name)
    with pytest.raises(ValueError, match=f"image_ids: expected distinct ids, found '{IDS[1]}' more than once"):
        metric.update(*batch(name, slice(2))[:2], [IDS[1]] * 2, *batch(name, slice(2))[3:])
    fed(metric, name, slice(5), slice(4, 7))
    advice = "a sampler .*UnpaddedSampler"
    with pytest.raises(ValueError, match=f"each image once.*found 1 of 8 again, one is '{IDS[4]}'; {advice}"):
        metric.compute()
    metric.reset()
    fed(metric, name)  # the next epoch has the same images
    assert values(metric.compute()) == expected(name)


@pytest.mark.parametrize("ids", [list(range(9)), np.arange(9), torch.arange(9), torch.arange(9, dtype=torch.int32)])
def test_ids_may_be_integers(ids):
    metric = make("MaxBoxAccV2")
    metric.update(CAMS, BOXES, ids)
    assert values(metric.compute()) == expected("MaxBoxAccV2")
    metric.update(CAMS[:1], BOXES[:1], [np.int64(3)])
    with pytest.raises(ValueError, match="found 1 of 10 again, one is 3;"):
        metric.compute()


BAD = {
    "too_few_ids": (CAMS, BOXES, IDS[:-1], "image_ids: expected 9, one for each map, found 8"),
    "one_text": (CAMS, BOXES, "a" * 9, "image_ids: expected a sequence of 9 ids, found the single string"),
    "too_few_boxes": (CAMS, BOXES[:-1], IDS, "boxes: expected one for each of 9 ids, found 8"),
    "no_boxes": (CAMS, 3, IDS, "boxes: expected one for each of 9 ids, found int"),
    "empty_boxes": (CAMS, [np.empty((0, 4), int), *BOXES[1:]], IDS, r"image 'folder/0.jpg': .*\[n, 4\] with n >= 1"),
    "float_boxes": (CAMS, [each * 1.0 for each in BOXES], IDS, "image 'folder/0.jpg': .*integers, found float64"),
    "one_map": (CAMS[0], BOXES[:8], IDS[:8], r"cams: expected an array \[N, h, w\]"),
    "no_maps": (None, BOXES, IDS, "image_ids: expected 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_batch_counts_nothing(case):
    metric = fed(make("MaxBoxAccV2"), "MaxBoxAccV2")
    *bad, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        metric.update(*bad)
    assert values(metric.compute()) == expected("MaxBoxAccV2")


def test_localization_of_classified_images():
    result = evaluated("TopKLocalization")
    for place, metric in enumerate(("MaxBoxAcc", "MaxBoxAccV2")):
        for number, top in enumerate((1, 5)):
            for at in ("best", "gt-known", 0.35):
                ours = fed(make("TopKLocalization", top=top, metric=metric, at=at), "TopKLocalization").compute()
                rows = zip(result, result.localization(at), strict=True)
                assert values(ours) == {row.name: figures[3 * place + number].figure for row, figures in rows}
    for wrong in ({"top": 2}, {"top": True}, {"metric": "PxAP"}, {"at": "worst"}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected"):
            make("TopKLocalization", **wrong)
    metric = fed(make("TopKLocalization"), "TopKLocalization", slice(5))
    with pytest.raises(ValueError, match=f"image '{IDS[6]}': labels.*: expected a class in .*found 7"):
        metric.update(CAMS[5:], BOXES[5:], IDS[5:], LOGITS[5:], LABELS[5:] + 1)
    with pytest.raises(ValueError, match="logits, labels: expected both"):
        make("MaxBoxAcc").update(*batch("MaxBoxAcc"), logits=LOGITS)
    pair = torchmetrics.MetricCollection([make("MaxBoxAcc"), make("TopKLocalization")])
    keys = ("cams", "boxes", "image_ids", "logits", "labels")
    pair.update(**dict(zip(keys, batch("TopKLocalization", slice(5)), strict=True)))
    pair.update(**dict(zip(keys[:3], batch("MaxBoxAcc", slice(5, None)), strict=True)))  # without logits
    assert values(pair["MaxBoxAcc"].compute()) == expected("MaxBoxAcc")
    with pytest.raises(ValueError, match="logits: expected them with all 9 images, found 4 without"):
        pair.compute()


def test_pixel_iou_begins_at_zero():
    for what in (make, lambda name, **how: functional.pixel_iou(CAMS, MASKS, size=SIZE, **how)):
        with pytest.raises(ValueError, match="thresholds: expected 0 as the first, found 0.5"):
            what("PixelIoU", thresholds=[0.5])


POINTS = cases.cams_of_one_size(60, (6, 7), seed=21)
POINTS[5] = np.round(POINTS[5])  # several maxima
CORNERS = np.sort(np.random.default_rng(22).integers(0, 20, (60, 2, 2)), axis=1).reshape(60, 1, 4)
POINTED_BOXES = [np.concatenate([box, box + [-3, 9, 0, 9]])[: 1 + index % 2] for index, box in enumerate(CORNERS)]
POINTED_MASKS = np.random.default_rng(23).choice(np.array([0, 1, 255], np.uint8), (60, *SIZE), p=[0.91, 0.04, 0.05])


def points_near(resized, truth, tolerance):
    """Whether a map's first largest pixel is so near to the object, pixel by pixel of that."""
    if np.isnan(resized).any() or resized.min() == resized.max():
        return False
    y, x = np.argwhere(resized == resized.max())[0].tolist()
    if truth.ndim == 2 and truth.shape[1] == 4:
        objects = [(px, py) for x0, y0, x1, y1 in truth for px in range(x0, x1 + 1) for py in range(y0, y1 + 1)]
    else:
        objects = [(px, py) for py, px in np.argwhere(truth == 1)]
    return min((px - x) ** 2 + (py - y) ** 2 for px, py in objects) <= tolerance**2


@pytest.mark.parametrize("truth", ["boxes", "masks"])
@pytest.mark.parametrize("tolerance", [0, 1, 4])
def test_the_pointing_game_is_that_of_single_images(truth, tolerance):
    held = POINTED_BOXES if truth == "boxes" else POINTED_MASKS
    resized = resize(POINTS, SIZE, backend="reference")
    hits = np.array([points_near(*each, tolerance) for each in zip(resized, held, strict=True)])
    points, exists = pointing.maxima(resized)
    assert 0 < hits.sum() < exists.sum() < 60
    near = pointing.near_boxes if truth == "boxes" else pointing.near_pixels
    objects = held if truth == "boxes" else held == 1
    np.testing.assert_array_equal(near(points, objects, tolerance), hits)
    tensors = pointing.maxima(torch.from_numpy(resized))
    np.testing.assert_array_equal(tensors[0].numpy(), points)
    np.testing.assert_array_equal(tensors[1].numpy(), exists)
    metric = metrics.PointingGame(truth, tolerance=tolerance, size=SIZE)
    for start in range(0, 60, 25):
        part = slice(start, start + 25)
        alone = metric(POINTS[part], image_ids=range(60)[part], **{truth: held[part]})
        assert alone.item() == 100.0 * hits[part].sum() / len(hits[part])
    assert metric.compute().item() == 100.0 * hits.sum() / 60 and metric.compute().dtype == torch.float64
    assert pickle.loads(pickle.dumps(metric)).compute() == metric.compute()
    cams = torch.from_numpy(POINTS)
    twin = functional.pointing_game(cams, **{truth: held}, tolerance=tolerance, size=SIZE)
    assert twin.item() == metric.compute().item()
    metric.update(cams[:1], image_ids=[7], **{truth: held[:1]})
    with pytest.raises(ValueError, match="found 1 of 61 again, one is 7;"):
        metric.compute()


def test_the_pointing_game_names_what_is_wrong():
    metric = metrics.PointingGame(size=SIZE)
    with pytest.raises(ValueError, match="boxes: expected one for each map, found None"):
        metric.update(CAMS, masks=MASKS, image_ids=IDS)
    with pytest.raises(ValueError, match="image_ids: expected one for each map, found None"):
        metric.update(CAMS, BOXES)
    with pytest.raises(ValueError, match=r"image 'folder/8.jpg': .*\[n, 4\] with n >= 1"):
        metric.update(CAMS, [*BOXES[:-1], np.empty((0, 4), int)], IDS)
    assert metric.num_images == 0
    for wrong in ({"truth": "points"}, {"tolerance": -1}, {"tolerance": 1.5}, {"size": 5}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected"):
            metrics.PointingGame(**wrong)
    with pytest.raises(ValueError, match="boxes, masks: expected one of them"):
        functional.pointing_game(CAMS, BOXES, MASKS, size=SIZE)
    with pytest.raises(ValueError, match="at least one map"):
        functional.pointing_game(CAMS[:0], [], size=SIZE)


def test_masks_of_another_size_and_arguments_that_are_wrong():
    with pytest.raises(ValueError, match=r"image 'folder/0.jpg': expected a mask uint8 \(21, 20\), found uint8"):
        make("PxAP").update(CAMS, MASKS[:, :20], IDS)
    with pytest.raises(ValueError, match="normalization 'median'"):
        make("PxAP", "median")
    with pytest.raises(ValueError, match="thresholds: expected them in increasing order"):
        make("PxAP", thresholds=[0.5, 0.1])
    with pytest.raises(ValueError, match="Unexpected keyword"):
        make("PxAP", sums=True)


def test_a_collection_counts_once_what_metrics_share(monkeypatch):
    """As many updates of an Evaluator as there are kinds of ground truth and settings, not one a metric."""
    updates = []
    update = Evaluator.update
    monkeypatch.setattr(Evaluator, "update", lambda *args, **how: (updates.append(args), update(*args, **how))[1])
    members = {name: make(name) for name in TABLE} | {"other": make("MaxBoxAccV2", ["minmax"])}
    collection = torchmetrics.MetricCollection(members | {"pointing": metrics.PointingGame(size=SIZE)})

    def given(part):
        truth = {"boxes": BOXES[part], "masks": MASKS[part], "logits": LOGITS[part], "labels": LABELS[part]}
        return {"cams": CAMS[part], "image_ids": IDS[part], **truth}

    for number, part in enumerate((slice(3), slice(3, 6), slice(6, None))):
        del updates[:]
        collection.update(**given(part))
        assert len(updates) == (3 if number else 6)  # all are counted once, to see whose counts are the same
    found = values(collection.compute())
    groups = {frozenset(each) for each in collection.compute_groups.values()}
    of_boxes, of_masks = ({name for name in TABLE if TABLE[name][0] == kind} for kind in ("boxes", "masks"))
    assert groups == {frozenset(of_boxes), frozenset(of_masks), frozenset({"other"}), frozenset({"pointing"})}
    for name in TABLE:
        assert {each: found[f"{name}_{each}"] for each in NORMALIZATIONS} == expected(name)
    assert found["other"] == expected("MaxBoxAccV2")["minmax"]
    assert found["pointing"] == functional.pointing_game(CAMS, BOXES, size=SIZE)
    collection.reset()
    assert values(collection(**given(ALL))) == found


def test_metrics_whose_counts_are_equal_by_chance_share_nothing():
    first, second = make("MaxBoxAcc", "ivr:0.45"), make("MaxBoxAcc", "ivr:0.9")
    collection = torchmetrics.MetricCollection({"first": first, "second": second})
    flat = np.ones((2, 4, 4))  # the same score map under every normalization: none
    collection.update(cams=flat, boxes=BOXES[:2], image_ids=["a", "b"])
    assert torch.equal(first.num_correct, second.num_correct) and len(collection.compute_groups) == 2
    collection.update(cams=CAMS, boxes=BOXES, image_ids=IDS)
    assert not torch.equal(first.num_correct, second.num_correct)


@every_metric
def test_a_result_has_all_there_is(name):
    assert fed(make(name), name).result().to_dict(curves=True) == evaluated(name).to_dict(curves=True)


@every_metric
def test_plot(name):
    pytest.importorskip("matplotlib", reason="needs the extra report").use("Agg")
    from matplotlib import pyplot

    metric = fed(make(name), name)
    for value in (None, metric.compute(), [metric.compute()] * 3):
        figure, axes = metric.plot(value)
        assert sorted(axes.get_legend_handles_labels()[1]) == sorted(NORMALIZATIONS)
        assert axes.get_ylim()[0] <= 0 and axes.get_ylim()[1] >= 100
        pyplot.close(figure)
    figure, axes = pyplot.subplots()
    assert fed(make(name, "max"), name).plot(ax=axes)[1] is axes
    pyplot.close(figure)


def test_the_sampler_gives_each_image_to_one_process():
    for number in (1, 2, 9, 10):
        for replicas in (1, 2, 3, 5):
            ours = [metrics.UnpaddedSampler(range(number), replicas, rank) for rank in range(replicas)]
            assert sorted(index for each in ours for index in each) == list(range(number))
            theirs = [
                torch.utils.data.DistributedSampler(range(number), replicas, rank, shuffle=False)
                for rank in range(replicas)
            ]
            for our, their in zip(ours, theirs, strict=True):
                assert len(list(our)) == len(our) and list(our) == list(their)[: len(our)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TopKLocalization"])
def test_the_backend_for_devices(name, cuda):
    """On the emulated device, or on a real one with CAMs that are there."""
    device = "cuda" if cuda == "gpu" else "cpu"
    cams = torch.from_numpy(CAMS).to(device)
    few = ["minmax", "ivr:0.45"]
    metric = make(name, few, backend="cuda", thresholds=np.arange(0, 1, 0.25)).to(device)
    metric.update(*batch(name, cams=cams))
    found = metric.compute()
    assert {each.device.type for each in found.values()} == {device}
    wanted = expected(name, normalizations=few, thresholds=np.arange(0, 1, 0.25))
    assert values(found) == wanted


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["MaxBoxAccV2", "PxAP"])
def test_update_does_not_wait_for_a_device(name):
    cams = torch.from_numpy(CAMS).cuda()
    metric = make(name).cuda()
    metric.update(*batch(name, cams=cams))
    metric.reset()
    torch.cuda.synchronize()
    with torch.cuda.device("cuda:0"):
        torch.cuda.set_sync_debug_mode("error")
        try:
            metric.update(*batch(name, cams=cams)[:2], torch.arange(9))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert values(metric.compute()) == expected(name)


@pytest.mark.gpu
def test_score_maps_on_a_device_are_refused_when_the_figure_is_asked_for():
    scores = torch.rand(9, *SIZE, device="cuda", dtype=torch.float64)
    scores[3, 2, 1] = 1.5
    metric = make("MaxBoxAcc", None).cuda()
    metric.update(scores, BOXES, IDS)
    for each in (metric, metric.clone()):
        with pytest.raises(ValueError, match="found 1.5 at row 2|batches, of this process or others, held no score"):
            each.compute()


@pytest.mark.slow
@every_metric
def test_a_thousand_maps(name):
    cams = cases.cams_of_one_size(1050, (7, 7), seed=11)
    rng = np.random.default_rng(12)
    corners = np.sort(rng.integers(0, 20, (len(cams), 2, 2)), axis=1).reshape(-1, 1, 4)
    masks = rng.choice(np.array([0, 1, 255], np.uint8), (len(cams), *SIZE))
    check_equal(name, cams, {"boxes": corners, "masks": masks}[TABLE[name][0]], {"size": SIZE})


@pytest.fixture(scope="module")
def demo_cams():
    demo = pytest.importorskip("wsolkern.demo")
    try:
        return demo.demo_cams(resolution=224)[:2]
    except ImportError as error:
        pytest.skip(f"needs the extra demo: {error}")


@pytest.mark.slow
@every_metric
def test_the_demo_cams(name, demo_cams):
    cams, boxes = demo_cams
    masks = np.zeros((len(cams), 224, 224), np.uint8)
    for mask, ((x0, y0, x1, y1), *_) in zip(masks, boxes, strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = 1
    check_equal(name, cams, {"boxes": boxes, "masks": masks}[TABLE[name][0]], {})


def check_equal(name, cams, held, how):
    ids, (truth, figures, twin, more) = range(len(cams)), TABLE[name]
    rng = np.random.default_rng(6)
    logits, labels = rng.normal(size=(len(cams), 20)), rng.integers(0, 20, len(cams))
    given = {"logits": logits, "labels": labels} if name == "TopKLocalization" else {}
    evaluator = Evaluator(NORMALIZATIONS, **{truth: dict(zip(ids, held, strict=True))}, **how)
    evaluator.update(cams, ids, **given)
    wanted = figures(evaluator.compute())
    metric = getattr(metrics, name)(NORMALIZATIONS, **how, **more)
    for start in range(0, len(cams), 64):
        part = slice(start, start + 64)
        classes = {key: torch.from_numpy(value[part]) for key, value in given.items()}
        metric.update(torch.from_numpy(cams[part]), held[part], ids[part], **classes)
    assert values(metric.compute()) == wanted
    assert values(twin(cams, held, *given.values(), NORMALIZATIONS, **how, **more)) == wanted


# Several processes, that torch.distributed connects.

PROCESSES = 3
SCENARIOS = ("unpadded", "padded", "padded_whole", "one_has_none", "other_settings", "two_of_three", "each_step")


def shares(scenario, rank):
    """The places of the images that a process counts."""
    if scenario == "one_has_none":
        return [] if rank == 1 else list(metrics.UnpaddedSampler(IDS, 2, rank // 2))
    if scenario == "two_of_three":
        return [] if rank == 2 else list(metrics.UnpaddedSampler(IDS, 2, rank))
    if scenario in ("padded", "padded_whole"):
        ids = IDS[:7] if scenario == "padded" else IDS
        return list(torch.utils.data.DistributedSampler(ids, PROCESSES, rank, shuffle=False))
    return list(metrics.UnpaddedSampler(IDS, PROCESSES, rank))


def of_places(name, places):
    """The arguments of an update with some images."""
    truth = [TRUTH[TABLE[name][0]][place] for place in places]
    more = (LOGITS[places], LABELS[places]) if name == "TopKLocalization" else ()
    return CAMS[places], truth, [IDS[place] for place in places], *more


def in_process(rank, folder):
    """Prints what a process finds: of each scenario and metric the figures and numbers of images, or the error."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES
    )
    two = torch.distributed.new_group([0, 1])
    found = {}
    for scenario in SCENARIOS:
        for name in TABLE:
            if scenario == "two_of_three" and rank == 2:
                continue
            normalizations = ["minmax"] if scenario == "other_settings" and rank else NORMALIZATIONS
            how = {"process_group": two if scenario == "two_of_three" else None}
            metric = make(name, normalizations, dist_sync_on_step=scenario == "each_step", **how)
            places = shares(scenario, rank)
            try:
                said = None
                for start in range(0, len(places), 3 if scenario == "each_step" else 2):
                    part = places[start : start + (3 if scenario == "each_step" else 2)]
                    said = (metric if scenario == "each_step" else metric.update)(*of_places(name, part))
                found[f"{scenario} {name}"] = [values(metric.compute()), metric.num_images]
                if scenario == "each_step":  # of one step, so that it is of all images
                    assert values(said) == values(metric.compute())
                else:  # what it has of its own is left
                    cams, truth, _, *more = of_places(name, [0])
                    metric.update(cams, truth, [f"more {rank}"], *more)
                    assert metric.num_images == len(places) + 1
            except ValueError as error:
                found[f"{scenario} {name}"] = str(error)
    collection = torchmetrics.MetricCollection([make(name) for name in ("MaxBoxAcc", "MaxBoxAccV2")])
    for place in metrics.UnpaddedSampler(IDS):
        collection.update(CAMS[[place]], [BOXES[place]], [IDS[place]])
    found["collection"] = values(collection.compute())
    torch.distributed.destroy_process_group()
    print(json.dumps(found))


@pytest.mark.slow
def test_several_processes(tmp_path):
    code = "import sys; from metrics.test_torch_metrics import in_process; in_process(int(sys.argv[1]), sys.argv[2])"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        for rank in range(PROCESSES)
    ]
    try:
        printed = [each.communicate(timeout=300) for each in started]
    finally:
        for each in started:
            each.kill()
    assert not any(each.returncode for each in started), printed
    found = [json.loads(out) for out, _ in printed]
    for scenario in SCENARIOS:
        for name in TABLE:
            said = [each[f"{scenario} {name}"] for each in found[: 2 if scenario == "two_of_three" else None]]
            if scenario == "other_settings":
                assert all("metrics of different settings were added" in each for each in said), said
            elif scenario == "padded":
                assert all("found 2 of 9 again" in each for each in said), said
                assert IDS[0] in said[0] and IDS[1] in said[1]  # who counted an image knows its name
            else:
                assert [each[0] for each in said] == [expected(name)] * len(said), scenario
                assert sum(each[1] for each in said) == len(IDS)
    both = {f"{name}_{key}": value for name in ("MaxBoxAcc", "MaxBoxAccV2") for key, value in expected(name).items()}
    assert [each["collection"] for each in found] == [both] * PROCESSES
