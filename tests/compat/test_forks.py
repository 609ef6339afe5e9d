"""Projects that have changed the evaluator, in every way that we know: with the drop-in their numbers are their own."""

import contextlib
import functools
import importlib
import inspect
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import project
import pytest
import torch
from cases import smooth
from PIL import Image
from shared import slow_but
from test_compat import IOUS, Model, score_maps, write_masks, write_split

import wsolkern.compat
from wsolkern.compat import data_loaders, evaluation, inference, published, util
from wsolkern.compat.accelerated import accelerate

MODULES = list(project.FILES)
THRESHOLDS = list(np.arange(0, 1, 0.05))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Splits with boxes and with masks, maps, CAMs."""
    root = tmp_path_factory.mktemp("data")
    ids = write_split(root / "metadata" / "CUB" / "test", "boxes")
    write_split(root / "metadata" / "OpenImages" / "test", "masks")
    write_masks(root / "masks" / "OpenImages")
    text = "".join(f"{image_id},{n}.png,{n}_ignore.png\n" for n, image_id in enumerate(ids))
    (root / "metadata" / "OpenImages" / "test" / "localization.txt").write_text(text)
    for n in range(0, 9, 3):  # the published code needs one of each image
        Image.fromarray(np.eye(50, 60, dtype=np.uint8) * 255).save(root / "masks" / "OpenImages" / f"{n}_ignore.png")
    maps = score_maps(ids)
    for each, score_map in maps.items():
        path = root / "maps" / f"{each}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, score_map)
    rng = np.random.default_rng(4)
    images = torch.tensor(np.stack([[smooth(rng, 224, 224)] * 3 for _ in ids]), dtype=torch.float32)
    loader = [(images[i : i + 4], torch.zeros(len(images[i : i + 4])), tuple(ids[i : i + 4])) for i in (0, 4, 8)]
    return SimpleNamespace(root=root, ids=ids, maps=maps, loader=loader)


@pytest.fixture
def run(tmp_path, monkeypatch, data, capsys):
    """Runs a fork in a folder and modules of its own: alone, or with the drop-in; returns numbers and installation."""
    project.known(monkeypatch)
    number = iter(range(100))

    def run(fork, when=None):
        folder = tmp_path / str(next(number))
        (folder / fork.package.replace(".", "/")).mkdir(parents=True)
        prefix = fork.package + "." * bool(fork.package)
        for name, text in project.FILES.items():
            for old, new in fork.edits.get(name, ()):
                assert old in text, old
                text = text.replace(old, new)
            for each in MODULES:
                text = text.replace(f"from {each} import", f"from {prefix}{each} import")
            (folder / fork.package.replace(".", "/") / f"{name}.py").write_text(text)
        with monkeypatch.context() as patch:
            for name in list(sys.modules):
                if name in MODULES or name.partition(".")[0] == "libs":
                    patch.delitem(sys.modules, name)
            patch.syspath_prepend(folder)
            modules = dict.fromkeys(MODULES)
            names = [prefix + each for each in MODULES] if fork.package else []
            done = wsolkern.compat.install(*names) if when == "at first" else None
            for each in modules:
                modules[each] = importlib.import_module(prefix + each)
            here = SimpleNamespace(data=data, folder=folder, **modules)
            if fork.patch:
                fork.patch(here)
            if when == "at last":
                done = wsolkern.compat.install(*names)
            capsys.readouterr()
            numbers = fork.measure(here)
            printed = capsys.readouterr().out
            for name in list(sys.modules):  # what was imported or registered here is of this run alone
                if name in MODULES or name.partition(".")[0] == "libs":
                    del sys.modules[name]
        return numbers, printed, done

    return run


def settings(here, kind="CUB"):
    metadata = here.data_loaders.configure_metadata(str(here.data.root / "metadata" / kind / "test"))
    return {
        "metadata": metadata,
        "dataset_name": kind,
        "split": "test",
        "cam_threshold_list": THRESHOLDS,
        "iou_threshold_list": IOUS,
        "mask_root": str(here.data.root / "masks" / "OpenImages"),
        "multi_contour_eval": True,
    }


def counted(evaluator):
    return [evaluator.cnt, *np.concatenate(list(evaluator.num_correct.values())).tolist(), *evaluator.compute()]


def boxes(here, *more, maps=None, **arguments):
    """Counts and figures of a BoxEvaluator."""
    evaluator = here.evaluation.BoxEvaluator(**{**settings(here), **arguments})
    for image_id, scoremap in (maps or here.data.maps).items():
        evaluator.accumulate(scoremap.copy(), image_id, *more)
    return counted(evaluator)


def masks(here, **arguments):
    evaluator = here.evaluation.MaskEvaluator(**{**settings(here, "OpenImages"), **arguments})
    for image_id, scoremap in here.data.maps.items():
        evaluator.accumulate(scoremap.copy(), image_id)
    histograms = evaluator.gt_true_score_hist, evaluator.gt_false_score_hist
    return [*np.concatenate(histograms).tolist(), evaluator.compute()]


def cams(here, kind="CUB", split="test"):
    """Counts and figures of a CAMComputer, and what it wrote."""
    root = here.data.root
    how = {"mask_root": str(root / "masks" / "OpenImages"), "dataset_name": kind, "split": split}
    computer = here.inference.CAMComputer(
        Model(), here.data.loader, str(root / "metadata" / kind / "test"), iou_threshold_list=IOUS,
        multi_contour_eval=True, cam_curve_interval=0.05, log_folder=str(here.folder / "log"), **how,
    )  # fmt: skip
    figures = computer.compute_and_evaluate_cams()
    written = {str(path.relative_to(here.folder)): np.load(path) for path in sorted(here.folder.rglob("*.npy"))}
    digests = [(name, scoremap.dtype.name, scoremap.tobytes()) for name, scoremap in written.items()]
    return [figures, digests, *(counted(computer.evaluator) if kind == "CUB" else ())]


def folder_of_maps(here, kind="CUB", maps="maps"):
    root = here.data.root
    where = str(root / maps), str(root / "metadata"), str(root / "masks"), kind, "test"
    return [here.evaluation.evaluate_wsol(*where, True, False, IOUS, 0.05)]


def everything(here):
    return [*boxes(here), *masks(here), *cams(here), *cams(here, "OpenImages"), *folder_of_maps(here)]


def two_figures(here):
    """Also with thresholds that the published function alone takes."""
    more = boxes(here, cam_threshold_list=[0.3, 1.0, -0.5], multi_contour_eval=False)
    return [*boxes(here), *masks(here), *more, *masks(here, cam_threshold_list=[0.5, 1.0])]


def small(here):
    """Maps of 112 x 112 pixels."""
    maps = {each: np.ascontiguousarray(m[::2, ::2]) for each, m in here.data.maps.items()}
    return boxes(here, maps=maps)


def narrow(here):
    return boxes(here, maps={each: m.astype(np.float32) for each, m in here.data.maps.items()})


def shrunk(here):
    return boxes(SimpleNamespace(**{**vars(here), "evaluation": SimpleNamespace(BoxEvaluator=here.evaluation.Shrunk)}))


def to_one(here):
    numbers = boxes(here, cam_threshold_list=[*THRESHOLDS, 1.0, 1.5], multi_contour_eval=False)
    return [*numbers, *masks(here, cam_threshold_list=[*THRESHOLDS, 1.0]), *masks(here, cam_threshold_list=[1.0])]


def top1(here):
    evaluator = here.evaluation.BoxEvaluator(**settings(here))
    for n, (image_id, scoremap) in enumerate(here.data.maps.items()):
        evaluator.accumulate(scoremap, image_id, n % 3, 0)
    return [*counted(evaluator), *np.concatenate(list(evaluator.top1.values())).tolist()]


def halved(here):
    """A subclass in the project's main file."""

    class Mine(here.evaluation.BoxEvaluator):
        def accumulate(self, scoremap, image_id):
            if not image_id.startswith("a"):
                super().accumulate(scoremap / 2, image_id)

        def _load_resized_boxes(self, original_bboxes):
            resized = super()._load_resized_boxes(original_bboxes)
            return {each: [(x0, y0, (x0 + x1) // 2, y1) for x0, y0, x1, y1 in resized[each]] for each in resized}

    here.evaluation.BoxEvaluator = here.inference.BoxEvaluator = Mine


def own_accumulate(here):
    def accumulate(self, scoremap, image_id):
        found, _ = here.evaluation.compute_bboxes_from_scoremaps(scoremap, self.cam_threshold_list, True)
        truth = np.array(self.gt_bboxes[image_id])[:1]
        for t, each in enumerate(found):
            best = here.evaluation.calculate_multiple_iou(each[:1], truth).max()  # OpenCV's first contour
            for iou in self.iou_threshold_list:
                self.num_correct[iou][t] += best > iou / 100
        self.cnt += 1

    here.evaluation.BoxEvaluator.accumulate = accumulate


def patched(module, name, make):
    """``make`` gets what was there."""

    def patch(here):
        there = vars(here)[module]
        new = make(vars(there)[name])
        for each in MODULES:  # whoever imported it
            if vars(vars(here)[each]).get(name) is vars(there)[name] and vars(here)[each] is not there:
                setattr(vars(here)[each], name, new)
        setattr(there, name, new)

    return patch


def wrapped(original):
    @functools.wraps(original)
    def wrapper(*args, **kwargs):
        return original(*args, **kwargs) * 0.9

    return wrapper


def squared(original):
    return lambda cam: np.square(original(cam))


def first_only(original):
    def compute_bboxes_from_scoremaps(scoremap, scoremap_threshold_list, multi_contour_eval):
        return [each[:1] for each in original(scoremap, scoremap_threshold_list, multi_contour_eval)[0]], [1] * 20

    return compute_bboxes_from_scoremaps


@dataclass
class Fork:
    measure: object
    edits: dict = field(default_factory=dict)
    patch: object = None
    package: str = ""
    kept: dict = field(default_factory=dict)
    """What stays -> why, at least."""
    replaced: tuple = ()
    """What does not, at least."""


INITS = "(self, **kwargs):\n        super().__init__(**kwargs)\n        self.image_ids"
SHRUNK = """
class Shrunk(BoxEvaluator):
    def _load_resized_boxes(self, original):
        return {i: [(x, y, x + 9, y + 9) for x, y, _, _ in original[i]] for i in self.image_ids}


"""
ADDED = "self.top1[iou] += (best >= iou / 100) & (target == predicted)"
TOP1 = "self.top1 = {iou: np.zeros(len(self.cam_threshold_list)) for iou in self.iou_threshold_list}"
ALL = ("evaluation.BoxEvaluator", "evaluation.MaskEvaluator", "inference.CAMComputer", "evaluation.evaluate_wsol")
BELOW = ("evaluation.compute_bboxes_from_scoremaps", "evaluation.calculate_multiple_iou")
FORKS = {
    "untouched": Fork(everything, replaced=(*ALL, *BELOW, "evaluation.get_mask", "util.t2n")),
    "comments_and_types": Fork(
        boxes,
        {
            "evaluation": [
                ("        self.cnt += 1", "        # one more\n        self.cnt += 1"),
                ("accumulate(self, scoremap, image_id):", 'accumulate(self, scoremap, image_id: int):\n        "?"'),
                (INITS, INITS.replace("super()", "super(BoxEvaluator, self)")),
                ("class LocalizationEvaluator:", "class LocalizationEvaluator(object):"),
            ],
            "util": [("np.float64", "float")],
        },
        replaced=(*ALL, *BELOW, "util.t2n"),
    ),
    "constructor_argument": Fork(
        functools.partial(boxes, margin=0.1),
        {
            "evaluation": [
                (INITS, INITS.replace("f,", "f, margin,").replace("super", "self.margin = margin\n        super")),
                ("best >= iou / 100", "best >= iou / 100 - self.margin"),
            ]
        },
        kept={"evaluation.BoxEvaluator": "its __init__ takes (self, margin, **kwargs), its accumulate has"},
        replaced=(*BELOW, "evaluation.MaskEvaluator"),
    ),
    "constructor_alone": Fork(
        two_figures,
        {
            "evaluation": [
                (INITS, INITS.replace("f,", "f, margin=0,")),
                ("        self.mask_paths", "        self.name = 'mine'\n        self.mask_paths"),
            ]
        },
        kept={
            "evaluation.BoxEvaluator": "its __init__ takes (self, margin=0, **kwargs)",
            "evaluation.MaskEvaluator": "its __init__ has another body",
        },
        replaced=(*BELOW, "evaluation.BoxEvaluator.accumulate", "evaluation.MaskEvaluator.accumulate"),
    ),
    "accumulate_arguments": Fork(
        top1,
        {
            "evaluation": [
                ("def accumulate(self, scoremap, image_id):\n        boxes,",
                 "def accumulate(self, scoremap, image_id, target, predicted):\n        boxes,"),
                ("        self.cnt = 0", f"        self.cnt = 0\n        {TOP1}"),
                ("            self.num_correct[iou] +=", f"            {ADDED}\n            self.num_correct[iou] +="),
            ]
        },
        kept={"evaluation.BoxEvaluator": "its __init__ has another body, its accumulate takes (self, scoremap"},
        replaced=BELOW,
    ),
    "module_name": Fork(
        everything, package="libs.eval", replaced=[f"libs.eval.{each}" for each in (*ALL, *BELOW)]
    ),
    "subclass": Fork(boxes, patch=halved, replaced=BELOW),
    "subclass_in_a_cam_computer": Fork(cams, patch=halved, replaced=("inference.CAMComputer",)),
    "subclass_in_evaluate_wsol": Fork(folder_of_maps, patch=halved, replaced=("evaluation.evaluate_wsol",)),
    "subclass_in_the_module": Fork(
        shrunk,
        {"evaluation": [("def load_mask_image", f"{SHRUNK}def load_mask_image")]},
        replaced=("evaluation.BoxEvaluator",),
    ),
    "accumulate_patched": Fork(boxes, patch=own_accumulate),
    "accumulate_patched_in_a_cam_computer": Fork(cams, patch=own_accumulate),
    "normalize_scoremap_patched": Fork(cams, patch=patched("inference", "normalize_scoremap", squared)),
    "normalize_scoremap_of_its_own": Fork(
        cams,
        {"inference": [("cam -= cam.min()", "cam = np.maximum(cam, np.median(cam)) - np.median(cam)")]},
        kept={"inference.normalize_scoremap": "has another body"},
        replaced=ALL,
    ),
    "boxes_function_patched": Fork(boxes, patch=patched("evaluation", "compute_bboxes_from_scoremaps", first_only)),
    "iou_function_wrapped": Fork(everything, patch=patched("evaluation", "calculate_multiple_iou", wrapped)),
    "resize_bbox_of_its_own": Fork(
        everything,
        {"evaluation": [("int(float(c) *", "round(float(c) *")]},
        kept={"evaluation.resize_bbox": "has another body"},
        replaced=ALL,
    ),
    "resize_length": Fork(small, {"evaluation": [("_RESIZE_LENGTH = 224", "_RESIZE_LENGTH = 112")]}, replaced=ALL),
    "resize_length_patched": Fork(small, patch=lambda here: setattr(here.evaluation, "_RESIZE_LENGTH", 112)),
    "cam_computer_of_its_own": Fork(
        cams,
        {"inference": [("normalize_scoremap(resized)", "normalize_scoremap(resized)[::-1].copy()")]},
        kept={"inference.CAMComputer": "its compute_and_evaluate_cams has another body"},
        replaced=("evaluation.BoxEvaluator", "inference.normalize_scoremap"),
    ),
    "t2n_of_its_own": Fork(
        cams,
        {"util": [("astype(np.float64)", "astype(np.float64) ** 3")]},
        kept={"util.t2n": "has another body"},
        replaced=ALL,
    ),
    "float32_maps": Fork(
        narrow,
        {"util": [("or scoremap.dtype != np.float64", "or scoremap.dtype.kind != 'f'")]},
        kept={"util.check_scoremap_validity": "has another body"},
        replaced=("evaluation.BoxEvaluator",),
    ),
    "thresholds_to_one": Fork(to_one, replaced=ALL),
    "mask_of_its_own": Fork(
        masks,
        {"evaluation": [("np.where(ignored, 255, 0)", "np.where(ignored, 0, 255)")]},
        kept={"evaluation.get_mask": "has another body"},
        replaced=("evaluation.MaskEvaluator",),
    ),
    "mask_image_patched": Fork(masks, patch=patched("evaluation", "load_mask_image", lambda f: lambda *a: 1 - f(*a))),
    "mask_evaluator_of_its_own": Fork(
        masks,
        {"evaluation": [("scoremap[mask == 1], bins", "scoremap[mask == 255], bins")]},
        kept={"evaluation.MaskEvaluator": "its accumulate has another body"},
        replaced=("evaluation.get_mask",),
    ),
    "maps_of_its_own": Fork(
        folder_of_maps,
        {"evaluation": [("return np.load(os.path.join(self.scoremap_path, image_id + \".npy\"))",
                         "return np.load(os.path.join(self.scoremap_path, image_id + \".npy\")).T.copy()")]},
        kept={"evaluation.CamDataset": "its _load_cam has another body"},
        replaced=("evaluation.evaluate_wsol",),
    ),
    "another_split_is_not_written": Fork(functools.partial(cams, split="mine"), replaced=ALL),
}  # fmt: skip


FAST = ("comments_and_types", "constructor_argument", "accumulate_arguments", "subclass_in_the_module", "float32_maps")
FAST += (
    "constructor_alone",
    "normalize_scoremap_patched",
    "resize_length_patched",
    "mask_image_patched",
    "accumulate_patched",
)


@pytest.mark.filterwarnings("ignore:3 of 9 images were not accumulated")
@pytest.mark.parametrize("name", slow_but(FAST, FORKS))
def test_numbers_are_the_forks_own(run, name):
    fork = FORKS[name]
    alone, printed_alone, _ = run(fork)
    for when in ("at first", "at last"):
        numbers, printed, done = run(fork, when)
        assert numbers == alone, when
        auc = [line for line in printed.splitlines() if line.startswith("Mask AUC on split")]
        assert auc == [line for line in printed_alone.splitlines() if line.startswith("Mask AUC on split")], when
        if when == "at first" or not fork.patch:
            assert set(fork.replaced) <= set(done.replaced) and done.kept.keys() == fork.kept.keys()
            assert all(done.kept[each].startswith(why) for each, why in fork.kept.items()), done.kept


@pytest.mark.slow
def test_forks_differ_from_the_published(run):
    """Otherwise nothing would be tested."""
    published = {measure: run(Fork(measure))[0] for measure in (boxes, cams, masks, folder_of_maps)}
    for name, fork in FORKS.items():
        if fork.measure in published and name != "comments_and_types":
            assert run(fork)[0] != published[fork.measure], name


class TestInstall:
    def test_one_line_says_what_was_done_and_once(self, run, capsys):
        fork = FORKS["accumulate_arguments"]
        _, _, done = run(fork, "at last")
        line = str(done)
        assert line.startswith("wsolkern.compat: replaced util (t2n, ") and "\n" not in line
        assert "; kept evaluation.BoxEvaluator (its __init__ has another body, its accumulate takes (self, " in line
        assert "evaluation (calculate_multiple_iou, resize_bbox, compute_bboxes_from_scoremaps, get_mask, Mask" in line

    def test_again_is_the_same_and_says_nothing(self, tmp_path, run, capsys, monkeypatch):
        def again(here):
            monkeypatch.setattr(wsolkern.compat, "_said", set())
            first, printed = wsolkern.compat.install(), capsys.readouterr()
            assert wsolkern.compat.install() == first and capsys.readouterr().err == ""
            assert printed.err == f"{first}\n" and printed.out == ""
            return first

        first, _, done = run(Fork(again), "at first")
        assert first == done and set(ALL) <= set(done.replaced)

    def test_modules_that_are_not_there(self, monkeypatch, capsys):
        for name in MODULES:
            monkeypatch.delitem(sys.modules, name, raising=False)
        done = wsolkern.compat.install("libs.evaluation", "nowhere")
        assert done.missing == ("libs.evaluation", "nowhere") and done.replaced == done.provided == ()
        done = wsolkern.compat.install()
        assert done.provided == (
            "util",
            "data_loaders",
            "evaluation",
            "inference",
        )
        assert str(done).startswith("wsolkern.compat: provided util, data_loaders, evaluation, inference, which the")
        assert importlib.import_module("evaluation") is wsolkern.compat.evaluation
        for name in MODULES:
            monkeypatch.delitem(sys.modules, name)

    def test_a_script_of_such_a_name_is_not_run(self, tmp_path, monkeypatch):
        (tmp_path / "inference.py").write_text("raise RuntimeError('run')\n")
        monkeypatch.syspath_prepend(tmp_path)
        for name in MODULES:
            monkeypatch.delitem(sys.modules, name, raising=False)
        done = wsolkern.compat.install()
        assert done.missing == ("inference",) and "nothing to serve in inference" in str(done)
        for name in set(MODULES) & sys.modules.keys():
            monkeypatch.delitem(sys.modules, name)

    def test_a_package_that_is_not_there(self, tmp_path, monkeypatch):
        """What is as published needs OpenCV no longer; what is not does."""
        project.known(monkeypatch)
        for text, error in (
            (project.EVALUATION, None),
            (project.EVALUATION.replace("+= 1", "+= 2"), ModuleNotFoundError),
        ):
            for name in MODULES:
                monkeypatch.delitem(sys.modules, name, raising=False)
            (tmp_path / "evaluation.py").write_text(text.replace("import cv2", "import not_there"))
            monkeypatch.syspath_prepend(tmp_path)
            with pytest.raises(error) if error else contextlib.nullcontext():
                assert "evaluation" in wsolkern.compat.install().provided
        for name in set(MODULES) & sys.modules.keys():
            monkeypatch.delitem(sys.modules, name)

    def test_all_in_one_module_of_another_name(self, tmp_path, monkeypatch, data):
        project.known(monkeypatch)
        text = "\n".join(project.FILES.values())
        for each in MODULES:
            text = text.replace(f"from {each} import", f"# {each}:")
        folder = tmp_path / "dlib" / "metrics"
        folder.mkdir(parents=True)
        (folder / "wsol_metrics.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        name, found = "dlib.metrics.wsol_metrics", []
        for install in (None, wsolkern.compat.install):
            monkeypatch.delitem(sys.modules, name, raising=False)
            module = importlib.import_module(name)
            done = install and install(name)
            here = SimpleNamespace(data=data, folder=tmp_path, **dict.fromkeys(MODULES, module))
            found.append([*boxes(here), *masks(here), *cams(here), *folder_of_maps(here)])
        assert found[0] == found[1]
        assert {each.replace("evaluation", name).replace("inference", name) for each in ALL} <= set(done.replaced)
        assert not done.kept and not done.missing
        for each in [each for each in sys.modules if each.partition(".")[0] == "dlib"]:
            monkeypatch.delitem(sys.modules, each)

    def test_evaluators_of_other_modules_are_named(self, tmp_path, monkeypatch):
        (tmp_path / "my_evaluation.py").write_text("class BoxEvaluator:\n    pass\n")
        monkeypatch.syspath_prepend(tmp_path)
        importlib.import_module("my_evaluation")
        done = wsolkern.compat.install("nowhere")
        assert "my_evaluation" in done.others and "not named and not served: install(" in str(done)
        done = wsolkern.compat.install("my_evaluation")
        assert (
            done.kept == {"my_evaluation.BoxEvaluator": "is derived from object"} and "my_evaluation" not in done.others
        )
        del sys.modules["my_evaluation"]


class TestAccelerated:
    """What a fork's own code gets is what the function that was there returns: values, types, shapes, order, dtypes."""

    THRESHOLDS = (0.0, -0.3, 1.0, 1.5, *np.arange(0, 1, 0.07), 0.999)

    @pytest.fixture
    def functions(self, tmp_path, monkeypatch):
        """Name -> (what is there, what takes its place)."""
        for name, text in project.FILES.items():
            (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        for name in MODULES:
            monkeypatch.delitem(sys.modules, name, raising=False)
        modules = [importlib.import_module(name) for name in MODULES]
        for name in MODULES:
            monkeypatch.delitem(sys.modules, name)
        there = {key: value for module in modules for key, value in vars(module).items()}
        for name in ("check_box_convention", "load_mask_image"):
            published.equal_to_published(there[name])
        names = (
            "compute_bboxes_from_scoremaps",
            "calculate_multiple_iou",
            "normalize_scoremap",
            "resize_bbox",
            "get_mask",
        )
        return {name: (there[name], accelerate(there[name], there[name].__globals__)) for name in names}

    def maps(self, rng):
        for height, width in rng.integers(5, 50, (12, 2)).tolist():
            yield smooth(rng, height, width)
            yield rng.random((height, width)).round(1)
            yield (rng.random((height, width)) < 0.4) * 1.0
        yield np.zeros((9, 8))

    def test_boxes_in_opencvs_order(self, functions, rng):
        there, fast = functions["compute_bboxes_from_scoremaps"]
        several = 0
        for scoremap in self.maps(rng):
            scoremap = (scoremap - scoremap.min()) / (np.ptp(scoremap) or 1)
            for multi in (False, True):
                (expected, counts), (found, numbers) = (f(scoremap, self.THRESHOLDS, multi) for f in (there, fast))
                assert counts == numbers and type(found) is type(numbers) is list
                several += sum(each > 1 for each in counts)
                for a, b in zip(expected, found, strict=True):
                    assert a.dtype == b.dtype
                    np.testing.assert_array_equal(a, b)
                found[0][:] = -1  # each is an array of its own
                assert (found[1] >= 0).all()
        assert several > 200

    def test_thresholds_of_other_types(self, functions, rng):
        there, fast = functions["compute_bboxes_from_scoremaps"]
        scoremap = rng.random((20, 30))
        for thresholds in (np.linspace(0, 1, 7, dtype=np.float32), [0, 1], [0.5, np.float16(0.3)], iter([0.1, 0.2])):
            thresholds = list(thresholds)
            for a, b in zip(there(scoremap, thresholds)[0], fast(scoremap, iter(thresholds))[0], strict=True):
                np.testing.assert_array_equal(a, b)
        with pytest.raises(ValueError, match="NaN"):
            fast(scoremap, [float("nan")])

    def test_overlaps(self, functions, rng):
        there, fast = functions["calculate_multiple_iou"]
        for dtype in (np.int64, np.float64, np.int32):
            a, b = (np.sort(rng.integers(0, 12, (n, 2, 2)), axis=1).reshape(n, 4).astype(dtype) for n in (40, 3))
            np.testing.assert_array_equal(there(a, b), fast(a, b))
            assert fast(a, b).dtype == np.float64 and fast(a, b).shape == (40, 3)
        with pytest.raises(RuntimeError, match="boxes"):
            fast(np.array([[-1, 0, 2, 2]]), b)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
    def test_normalization_is_in_place(self, functions, rng, dtype):
        there, fast = functions["normalize_scoremap"]
        cams = [(rng.normal(size=(7, 9)) * 3).astype(dtype), np.ones((3, 3), dtype), np.full((3, 3), np.nan, dtype)]
        for cam in cams:
            expected, found = cam.copy(), cam.copy()
            a, b = there(expected), fast(found)
            assert (a is expected) == (b is found) and a.dtype == b.dtype == dtype
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(expected, found)

    def test_boxes_resized(self, functions):
        there, fast = functions["resize_bbox"]
        for box in ((1, 2, 50, 60), [0, 0, 0, 0], np.array([3, 4, 96, 300])):
            assert there(box, (97, 301), (224, 224)) == fast(box, (97, 301), (224, 224))
        with pytest.raises(RuntimeError, match="order of corners"):
            fast((5, 5, 4, 9), (97, 301), (224, 224))

    def test_masks(self, functions, data):
        there, fast = functions["get_mask"]
        arguments = str(data.root / "masks" / "OpenImages"), ["1.png", "2.png"], "4_ignore.png"
        for _ in range(2):  # read, kept
            assert there(*arguments).dtype == fast(*arguments).dtype == np.uint8
            np.testing.assert_array_equal(there(*arguments), fast(*arguments))


class TestPublished:
    SOURCE = "def t2n(t):\n    return np.asarray(t).astype(np.float)\n"

    def test_what_counts_for_nothing(self):
        same = (
            'def t2n(t: "T") -> "A":\n    """?"""\n    # more\n    return np.asarray(\n t\n ).astype(float)\n',
            "def t2n(t):\n\treturn np.asarray(t).astype(np.float64)",
        )
        for text in same:
            assert published.entries(text) == published.entries(self.SOURCE)

    @pytest.mark.parametrize("old", ["np.float", "asarray", "t2n"])
    def test_what_counts(self, old):
        assert published.entries(self.SOURCE.replace(old, "other")) != published.entries(self.SOURCE)

    def test_without_source_the_signature_decides(self):
        names = {}
        exec("def t2n(t): return t\ndef get_image_ids(metadata, proxy=True): pass", names)
        assert published.difference(names["t2n"]) is None
        assert published.difference(names["get_image_ids"]) == "takes (metadata, proxy=True)"

    def test_ours_take_what_the_published_take(self):
        ours = {
            key: value for module in (util, data_loaders, evaluation, inference) for key, value in vars(module).items()
        }
        for name, versions in published.FUNCTIONS.items():
            if name in ours:
                taken = list(inspect.signature(ours[name]).parameters.values())
                for version in versions:
                    names = [each.split("=")[0] for each in version.rpartition(" ")[0][1:-1].split(", ")]
                    assert [each.name for each in taken[: len(names)]] == names, name
                    assert all(each.default is not each.empty for each in taken[len(names) :])

    def test_the_command(self, tmp_path, monkeypatch, capsys):
        project.known(monkeypatch)
        text = project.EVALUATION.replace("self.cnt += 1", "self.cnt += 2").replace("round", "int")
        (tmp_path / "evaluation.py").write_text(text)
        published.main([str(tmp_path / "evaluation.py")])
        lines = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()]
        assert "BoxEvaluator: its own: accumulate" in lines and "get_mask: as published" in lines
