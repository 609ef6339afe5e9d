"""The paper's tables: its own numbers in their places, and ours from small CAM stores.

In: kim2021.csv, generated metadata and stores. Out: text, Markdown, LaTeX, CSV, JSON.
Source: Kim et al., arXiv 2107.13221, tables 1 and 2; the Evaluator, fed directly, for our figures.
"""

import csv
import io
import json
import re
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import shared
from PIL import Image
from typer.testing import CliRunner

from wsolkern import Evaluator, box_hits
from wsolkern.cams import CamWriter, Manifest
from wsolkern.cli import app, terminal
from wsolkern.datasets import load_mask
from wsolkern.report import paper as report
from wsolkern.studies import paper, verify

NUM_IMAGES = 8
IDS = [f"part/{index}.jpg" for index in range(NUM_IMAGES)]
SETTINGS = ("--size", "40", "--interval", "0.05")
LINES = list(csv.DictReader(io.StringIO(files("wsolkern.studies").joinpath("kim2021.csv").read_text())))
LABELS = {"min-max": "minmax", "max": "max", "PaS": "pas", "IVR": "ivr"}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """--threads sets this variable for the whole process."""
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "2")


def run(*arguments, code: int = 0):
    """Invokes ``wsolkern table`` in this process and checks its exit code."""
    result = CliRunner().invoke(app, ["table", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


# The paper's own numbers.


def line_of(table: int, row: tuple[str, str], heading: str) -> str:
    """The number of kim2021.csv that belongs to a row and a Markdown heading, found by its words."""
    (dataset, *words) = heading.split()
    backbone, metric = (words[1], words[0]) if table == 1 else ("", words[0].replace("Mean", "BoxAcc_mean"))
    place = str(table), *row, dataset, metric, backbone.replace("Mean", "mean")
    (found,) = (each for each in LINES if tuple(each.values())[:-1] == place)
    return found["value"]


def markdown_rows(text: str) -> tuple[list[str], dict[tuple[str, str], list[str]]]:
    """Headings, and the cells of each method and normalization, of the only table in a text."""
    header, _, *lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    rows, method = {}, ""
    for line in lines:
        first, label, *cells = (each.strip() for each in line)
        method = first or method
        rows[method, LABELS[label]] = cells
    return [each.strip() for each in header[2:]], rows


def test_the_data_has_both_tables_and_means_that_fit_its_rows():
    assert [sum(line["table"] == number for line in LINES) for number in "12"] == [6 * 4 * 3 * 4, 2 * 4 * 4]
    off = []
    for line in LINES:
        if "mean" in (line["backbone"], line["metric"].partition("_")[2]):
            same = ("table", "method", "norm", "dataset", "metric")[: 5 if line["backbone"] else 4]
            others = [each for each in LINES if each is not line and all(each[key] == line[key] for key in same)]
            assert len(others) == 3
            off.append(abs(float(line["value"]) - sum(float(each["value"]) for each in others) / 3))
    assert len(off) == 72 + 8 and max(off) < 0.1 and sum(each > 0.0101 for each in off) == 4


@pytest.mark.parametrize(("table", "layout"), [(1, "backbones"), (2, "ious")])
def test_every_published_number_is_in_its_place(table, layout):
    headings, rows = markdown_rows(run("--published", "--layout", layout, "--format", "markdown").stdout)
    seen = 0
    for row, cells in rows.items():
        for heading, cell in zip(headings, cells, strict=True):
            assert cell.strip("*") == line_of(table, row, heading)
            rivals = [float(line_of(table, (row[0], each), heading)) for each in LABELS.values()]
            assert cell.startswith("**") == (float(cell.strip("*")) == max(rivals))
            seen += 1
    assert seen == sum(line["table"] == str(table) for line in LINES)


def test_published_tables_are_in_the_papers_order():
    headings, rows = markdown_rows(report.markdown(paper.arrange([], "backbones")))
    assert [method for method, family in rows if family == "max"] == ["CAM", "HaS", "ACoL", "SPG", "ADL", "CutMix"]
    assert [family for _, family in rows][:4] == ["minmax", "max", "pas", "ivr"]
    assert headings[:4] == [f"ImageNet MaxBoxAccV2 {each}" for each in ("VGG16", "InceptionV3", "ResNet50", "Mean")]
    assert headings[4].startswith("CUB MaxBoxAccV2") and headings[8].startswith("OpenImages PxAP")


def test_csv_of_the_published_tables_is_the_data():
    found = list(csv.DictReader(io.StringIO(run("--published", "--format", "csv").stdout)))
    assert list(found[0]) == list(paper.COLUMNS)
    names = ("method", "normalization", "dataset", "backbone", "metric", "published")
    source = ("method", "norm", "dataset", "backbone", "metric", "value")
    assert sorted([line[name] for name in names] for line in found) == sorted(
        [line[name] for name in source] for line in LINES
    )
    assert {line["value"] + line["difference"] for line in found} == {""}


def latex_rows(text: str) -> list[list[str]]:
    return [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r"\\")]


@pytest.mark.parametrize("layout", paper.PUBLISHED_LAYOUTS)
def test_latex_is_balanced_and_holds_every_number(layout):
    table = paper.arrange([], layout)
    text = report.latex(table, ["50 % of A_B & C"])
    (spec,) = re.findall(r"\\begin{tabular}{(\w+)}", text)
    titles, headings, *rows = latex_rows(text)
    spans = [int(each) for each in re.findall(r"\\multicolumn{(\d+)}", " ".join(titles))]
    assert {len(row) for row in (headings, *rows)} == {len(spec)} == {2 + sum(spans)}
    rules = [tuple(map(int, each)) for each in re.findall(r"\\cmidrule\(lr\){(\d+)-(\d+)}", text)]
    assert [end - start + 1 for start, end in rules] == spans and rules[0][0] == 3 and rules[-1][1] == len(spec)
    assert [text.count(each) for each in (r"\toprule", r"\bottomrule", r"\end{tabular}", r"\end{table}")] == [1] * 4
    assert text.count(r"\midrule") == len({method for method, _ in table.rows})
    assert text.count("{") == text.count("}") and r"50 \% of A\_B \& C" in text
    numbers = [re.sub(r"\\textbf{(.*)}", r"\1", cell) for row in rows for cell in row[2:]]
    expected = [f"{table.at(row, column).published:.2f}" for row in table.rows for column in table.columns]
    assert numbers == expected


def test_text_fits_the_terminal():
    table = paper.arrange([], "backbones")
    (whole,) = report.rich_tables(table, 200)
    apart = report.rich_tables(table, 80)
    assert len(apart) == 3 and sum(len(each.columns) - 2 for each in apart) == len(whole.columns) - 2
    assert {each.row_count for each in (whole, *apart)} == {24}
    text = run("--published").stdout
    assert all(line["value"] in text for line in LINES)


# Figures in their layout.


def figure(method, family, backbone, value, dataset="CUB", metric="MaxBoxAccV2"):
    return paper.Figure(method, family, dataset, backbone, metric, value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("vgg16", "VGG16"), ("VGG16-GAP", "VGG16"), ("inception_v3", "InceptionV3"), ("ResNet-50", "ResNet50")),
        *(("ILSVRC", "ImageNet"), ("cub", "CUB"), ("OpenImages30k", "OpenImages"), ("has", "HaS"), ("ACOL", "ACoL")),
        *(("resnet50_se", "resnet50_se"), ("DINO ViT", "DINO ViT")),
    ],
)
def test_names(name, expected):
    assert paper.canonical(name) == expected


def test_unknown_names_come_after_the_papers():
    figures = [
        figure("Mine", "max", "ViT", 1.0),
        figure("CutMix+NWC", "max", "ResNet50", 2.0),
        figure("CutMix", "max", "VGG16", 3.0),
        figure("CAM", "max", "VGG16", 3.0, dataset="Birds"),
    ]
    table = paper.arrange(figures, "backbones")
    assert [method for method, _ in table.rows] == ["CAM", "CutMix", "CutMix+NWC", "Mine"]
    assert [column[:2] for column in table.columns] == [
        *(("CUB", "VGG16"), ("CUB", "ResNet50"), ("CUB", "ViT")),
        ("Birds", "VGG16"),
    ]
    assert len(report.markdown(table).splitlines()) == 2 + 4


def test_means_need_every_backbone():
    figures = [
        *(figure("CAM", "max", "VGG16", 50.0), figure("CAM", "max", "ResNet50", 61.0)),
        figure("HaS", "max", "ResNet50", 70.0),
    ]
    headings, rows = markdown_rows(report.markdown(paper.arrange(figures, "backbones")))
    assert headings == ["CUB MaxBoxAccV2 VGG16", "CUB MaxBoxAccV2 ResNet50", "CUB MaxBoxAccV2 Mean"]
    assert rows == {
        ("CAM", "max"): ["**50.00**", "**61.00**", "**55.50**"],
        ("HaS", "max"): ["–", "**70.00**", "–"],
    }
    one = paper.arrange(figures[:1], "backbones")
    assert [backbone for _, backbone, _ in one.columns] == ["VGG16"]


def test_a_mean_over_other_backbones_is_not_compared():
    figures = [figure("CAM", "max", backbone, 60.0) for backbone in ("VGG16", "InceptionV3", "ResNet50")]
    whole, two = (paper.arrange(each, "backbones", published=True) for each in (figures, figures[:2]))
    row, mean = ("CAM", "max"), ("CUB", "mean", "MaxBoxAccV2")
    assert (whole.at(row, mean).published, whole.at(row, mean).value) == (62.37, 60.0)
    assert (two.at(row, mean).published, two.at(row, mean).value) == (None, 60.0)


def test_best_is_what_prints_the_most():
    figures = [
        figure("CAM", family, "VGG16", value)
        for family, value in zip(LABELS.values(), (1, 9.004, 9.001, 9), strict=True)
    ]
    _, rows = markdown_rows(report.markdown(paper.arrange(figures, "backbones")))
    assert [cells for cells in rows.values()] == [["1.00"], ["**9.00**"], ["**9.00**"], ["**9.00**"]]


def test_the_papers_numbers_stand_beside_ours():
    figures = [
        figure("CAM", "ivr", "VGG16", 66.0),
        figure("CAM", "max", "VGG16", 64.0),
        figure("New", "max", "VGG16", 1.0),
    ]
    table = paper.arrange(figures, "backbones", published=True)
    _, rows = markdown_rows(report.markdown(table))
    assert rows["CAM", "ivr"] == ["**66.00** (65.27, +0.73)"] and rows["CAM", "max"] == ["64.00 (64.54, -0.54)"]
    assert rows["New", "max"] == ["**1.00**"]
    assert r"64.00 (64.54, $-$0.54)" in report.latex(table)
    found = {
        line["method"] + line["normalization"]: line for line in csv.DictReader(io.StringIO(report.csv_text([table])))
    }
    assert [found["CAMivr"][name] for name in ("value", "published", "difference")] == ["66.0", "65.27", "0.73"]
    assert [found["Newmax"][name] for name in ("value", "published", "difference")] == ["1.0", "", ""]


def test_missing_cells_are_empty_in_the_csv():
    table = paper.arrange([figure("CAM", "max", "VGG16", 1.0), figure("HaS", "max", "ViT", 2.0)], "backbones")
    lines = list(csv.DictReader(io.StringIO(report.csv_text([table]))))
    assert [(line["method"], line["backbone"], line["value"]) for line in lines] == [
        *(("CAM", "VGG16", "1.0"), ("CAM", "ViT", "")),
        *(("HaS", "VGG16", ""), ("HaS", "ViT", "2.0")),
    ]


def test_two_figures_of_one_place_are_refused():
    with pytest.raises(ValueError, match="expected one of CAM max CUB VGG16 MaxBoxAccV2, found two"):
        paper.arrange([figure("CAM", "max", "VGG16", 1.0), figure("CAM", "max", "VGG16", 2.0)], "backbones")
    with pytest.raises(ValueError, match="layout: expected backbones, ious, localization, found 'rows'"):
        paper.arrange([], "rows")


# Stores.


def box(index: int) -> list[int]:
    return [20 + 5 * index, 10, 110 + 10 * index, 120 - 5 * index]


def write_split(folder: Path, masks: bool = False) -> None:
    """8 images of 200 x 150 pixels with a box or a mask each."""
    located = {"mask": "mask.png"} if masks else {"box": box}
    shared.write_split(folder, IDS, size=(200, 150), label=LABELS_OF_IMAGES.__getitem__, **located)


@pytest.fixture
def root(tmp_path) -> Path:
    """metadata/CUB/test, CUB/val, ILSVRC/test, OpenImages/test, Own/test."""
    for name in ("CUB/test", "CUB/val", "ILSVRC/test", "Own/test"):
        write_split(tmp_path / "metadata" / name)
    write_split(tmp_path / "metadata/OpenImages/test", masks=True)
    pixels = np.zeros((150, 200), np.uint8)
    pixels[30:90, 40:120] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    return tmp_path


def maps(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:7, :7]
    bumps = [np.exp(-((y - 2) ** 2 + (x - 2 - i / 3) ** 2) / 4) for i in range(NUM_IMAGES)]
    return (np.stack(bumps) + rng.normal(0, 0.4, (NUM_IMAGES, 7, 7))).astype(np.float32)


def logits(seed: int) -> np.ndarray:
    """Of 12 classes, without ties."""
    return np.random.default_rng(seed).permuted(np.tile(np.arange(12.0), (NUM_IMAGES, 1)), axis=1)


# Of the first logits some images are classified, some among the first five, some not.
LABELS_OF_IMAGES = np.argsort(-logits(1))[np.arange(NUM_IMAGES), [0, 3, 0, 7, 4, 11, 1, 0]].tolist()


def store(
    root: Path, seed: int, *, num_maps: int = NUM_IMAGES, nwc: bool = False, classified: bool = False, **manifest
) -> Path:
    """A store of that many maps; names are as a user might write them."""
    manifest = {"dataset": "cub", "split": "test", "method": "cam", "backbone": "vgg16"} | manifest
    path = root / f"store{seed}"
    with CamWriter(path, Manifest(**manifest, nwc=nwc)) as writer:
        twin = {"nwc_cams": np.abs(maps(seed + 100))[:num_maps]} if nwc else {}
        if classified:
            twin |= {"classes": LABELS_OF_IMAGES[:num_maps], "logits": logits(seed)[:num_maps]}
        writer.add(IDS[:num_maps], maps(seed)[:num_maps], **twin)
    return path


def result(cams: np.ndarray, names, **truth):
    """What the Evaluator makes of maps."""
    if not truth:
        boxes = (np.array([box(i) for i in range(NUM_IMAGES)]) * ([40 / 200, 40 / 150] * 2)).astype(int)
        truth = {"boxes": dict(zip(IDS, boxes[:, None], strict=True))}
    evaluator = Evaluator(names, thresholds=np.arange(0, 1, 0.05), size=(40, 40), **truth)
    evaluator.update(cams, IDS[: len(cams)])
    return evaluator.compute()


def measured(*arguments, code: int = 0, table: int = 0) -> dict:
    """The cells of the JSON by method, normalization, backbone and metric, and the runs."""
    content = json.loads(run(*arguments, *SETTINGS, "--json", "-", code=code).stdout)
    names = ("method", "normalization", "backbone", "metric")
    cells = {tuple(each[name] for name in names): each for each in content["tables"][table]["cells"]}
    return {"cells": cells, "runs": content["runs"], "missing": content["missing"]}


def test_table_equals_the_evaluator(root):
    runs = store(root, 1), store(root, 2, method="HaS", backbone="ResNet50"), store(root, 3, backbone="resnet50")
    found = measured(*runs, "--metadata-root", root / "metadata")["cells"]
    seen = 0
    for seed, method, backbone, ivr in (
        (1, "CAM", "VGG16", 0.45),
        (2, "HaS", "ResNet50", 0.6),
        (3, "CAM", "ResNet50", 0.6),
    ):
        for row in result(maps(seed), ("minmax", "max", "pas:0.9", f"ivr:{ivr}")):
            family, _, percentile = row.name.partition(":")
            cell = found[method, family, backbone, "MaxBoxAccV2"]
            assert cell["value"] == row.max_box_acc_v2 and cell["dataset"] == "CUB"
            assert cell["percentile"] == (float(percentile) if percentile else None)
            seen += 1
    assert seen == sum(cell["value"] is not None for cell in found.values()) - 4  # and CAM's means
    mean = found["CAM", "ivr", "mean", "MaxBoxAccV2"]["value"]
    assert mean == sum(found["CAM", "ivr", each, "MaxBoxAccV2"]["value"] for each in ("VGG16", "ResNet50")) / 2
    assert found["HaS", "ivr", "mean", "MaxBoxAccV2"]["value"] is None


@pytest.mark.parametrize("at", ["best", "gt-known", "0.25"])
def test_localization_equals_a_loop_over_images(root, at):
    """Top-1, Top-5 and GT-known of MaxBoxAcc's box at IoU 0.5: hits of single images, ranks by counting."""
    path = store(root, 1, classified=True, nwc=True)
    options = path, "--metadata-root", root / "metadata", "--layout", "localization", "--at", at, "--nwc"
    found = measured(*options)["cells"]
    thresholds = np.arange(0, 1, 0.05)
    scores = logits(1)
    ranks = [(row > row[label]).sum() for row, label in zip(scores, LABELS_OF_IMAGES, strict=True)]
    boxes = (np.array([box(i) for i in range(NUM_IMAGES)]) * ([40 / 200, 40 / 150] * 2)).astype(int)
    seen = 0
    for method, cams in (("CAM", maps(1)), ("CAM+NWC", np.abs(maps(101)))):
        for name in ("minmax", "max", "pas:0.9", "ivr:0.45"):
            counts = {"Top-1": np.zeros(20), "Top-5": np.zeros(20), "GT-known": np.zeros(20)}
            for cam, truth, rank in zip(cams, boxes, ranks, strict=True):
                hits = box_hits(cam[None], [truth[None]], [name], thresholds, [0.5], contours="largest", size=(40, 40))
                for key, k in (("Top-1", 1), ("Top-5", 5), ("GT-known", 12)):
                    counts[key] += np.asarray(hits)[0, 0, 0] & (rank < k)
            for key, each in counts.items():
                place = {"best": each.argmax(), "gt-known": counts["GT-known"].argmax(), "0.25": 5}[at]
                cell = found[method, name.partition(":")[0], "VGG16", f"{key} Loc"]
                assert cell["value"] == 100 * each[place] / NUM_IMAGES and cell["published"] is None
                seen += 1
    assert seen == len(found) == 24
    assert 0 < sum(rank < 1 for rank in ranks) < sum(rank < 5 for rank in ranks) < NUM_IMAGES
    text = run(*options, *SETTINGS).stdout
    assert "GT-known Loc" in text and "Localization: MaxBoxAcc's box" in text and "an unknown class" not in text
    if at == "gt-known":
        run(*options, *SETTINGS, "--json", root / "result.json")
        assert verify(root / "result.json").holds


def test_localization_that_cannot_be_is_refused_before_the_work(root):
    path, metadata = store(root, 1), ("--metadata-root", root / "metadata")
    refused = run(path, *metadata, "--layout", "localization", code=terminal.FAILED).stderr
    assert f"--layout: {path}: layout localization needs boxes, labels and the logits of all images" in refused
    for options, message in (
        (("--layout", "localization", "--published"), "--published, --layout: the paper has no Top-1"),
        (("--at", "gt-known"), "--at: needs the layout localization"),
        (("--layout", "localization", "--at", "0.1234"), "--at: expected one of the 1000 thresholds, found 0.1234"),
        (("--layout", "localization", "--at", "1.5"), "--at: expected one of best, gt-known"),
    ):
        assert message in run(store(root, 2, classified=True), *metadata, *options, code=terminal.FAILED).stderr
        shutil.rmtree(root / "store2")


def test_counts_without_logits_are_none_of_those_with_them(root):
    path, state = store(root, 1, classified=True), root / "state"
    options = path, "--metadata-root", root / "metadata", "--resume", state
    measured(*options)
    found = measured(*options, "--layout", "localization")["cells"]
    assert found == measured(*options[:3], "--layout", "localization")["cells"]


def test_layout_by_iou_and_rows_of_nwc(root):
    path = store(root, 1, nwc=True)
    found = measured(path, "--metadata-root", root / "metadata", "--layout", "ious", "--nwc")["cells"]
    assert len(found) == 2 * 4 * 4
    for method, cams in (("CAM", maps(1)), ("CAM+NWC", np.abs(maps(101)))):
        for row in result(cams, ("minmax", "max", "pas:0.9", "ivr:0.45")):
            family = row.name.partition(":")[0]
            for iou, value in row.max_box_acc_v2_per_iou.items():
                assert found[method, family, "VGG16", f"BoxAcc@{100 * iou:g}"]["value"] == value
            assert found[method, family, "VGG16", "BoxAcc_mean"]["value"] == row.max_box_acc_v2
    markdown = run(
        path, "--metadata-root", root / "metadata", "--layout", "ious", *SETTINGS, "--format", "markdown"
    ).stdout
    headings, rows = markdown_rows(markdown)
    assert headings == [f"CUB VGG16 {each}" for each in ("BoxAcc@30", "BoxAcc@50", "BoxAcc@70", "Mean")]
    assert len(rows) == 4


def test_table_2_is_beside_ours_without_a_backbone(root):
    path = store(root, 1, nwc=True, method="cutmix")
    options = "--metadata-root", root / "metadata", "--layout", "ious", "--nwc", "--published"
    found = measured(path, *options)["cells"]
    assert found["CutMix+NWC", "ivr", "", "BoxAcc_mean"]["published"] == 79.19
    assert found["CutMix+NWC", "ivr", "VGG16", "BoxAcc_mean"]["published"] is None
    assert "name no backbone" in run(path, *options, *SETTINGS).stdout


def test_masks_give_pxap(root):
    path = store(root, 1, dataset="openimages")
    options = path, "--metadata-root", root / "metadata"
    found = measured(*options, "--mask-root", f"OpenImages={root}")["cells"]
    mask = load_mask(root, ["mask.png"], None, (40, 40))
    for row in result(maps(1), ("minmax", "max", "pas:0.9", "ivr:0.05"), masks=dict.fromkeys(IDS, mask)):
        assert found["CAM", row.name.partition(":")[0], "VGG16", "PxAP"]["value"] == row.pxap
    assert "--mask-root OpenImages=DIR: needed" in run(*options, code=terminal.FAILED).stderr
    other = run(*options, "--mask-root", f"CUB={root}", code=terminal.FAILED)
    assert "--mask-root: expected a data set of RUNS (OpenImages), found CUB" in other.stderr
    assert "expected DATASET=DIR" in run(*options, "--mask-root", root, code=terminal.FAILED).stderr


def best_percentile(seed: int) -> float:
    names = [f"ivr:{round(0.05 * k, 2)}" for k in range(20)]
    rows = list(result(maps(seed), names))
    return 0.05 * max(range(20), key=lambda k: rows[k].max_box_acc_v2)


def test_percentile_is_selected_with_cam_on_val(root):
    runs = [
        *(store(root, 1), store(root, 2, method="HaS"), store(root, 3, method="HaS", backbone="ResNet50")),
        *(store(root, 10, split="val"), store(root, 11, split="train-fullsup", method="HaS")),
        store(root, 12, split="val", method="HaS", backbone="ResNet50"),
    ]
    assert len({round(best_percentile(seed), 2) for seed in (10, 11, 12)} | {0.45, 0.6}) == 5, (
        "the case tells them apart"
    )
    found = measured(*runs, "--metadata-root", root / "metadata")
    chosen = {(each["method"], each["backbone"]): each["ivr"] for each in found["runs"]}
    cam = {"value": pytest.approx(best_percentile(10)), "source": "selected on train-fullsup with CAM"}
    assert chosen["CAM", "VGG16"] == chosen["HaS", "VGG16"] == cam
    own = {"value": pytest.approx(best_percentile(12)), "source": "selected on train-fullsup with HaS"}
    assert chosen["HaS", "ResNet50"] == own
    percentile = chosen["HaS", "VGG16"]["value"]
    (row,) = result(maps(2), [f"ivr:{percentile}"])
    assert found["cells"]["HaS", "ivr", "VGG16", "MaxBoxAccV2"]["value"] == row.max_box_acc_v2
    text = run(*runs, "--metadata-root", root / "metadata", *SETTINGS).stdout
    assert f"CUB VGG16 {percentile:g} (selected on train-fullsup with CAM)" in text


@pytest.mark.parametrize(
    ("dataset", "backbone", "percentile"),
    [
        *(("CUB", "VGG16", 0.45), ("CUB", "InceptionV3", 0.6), ("CUB", "ResNet50", 0.6)),
        *(("ILSVRC", "vgg16", 0.25), ("ILSVRC", "resnet50", 0.3), ("ILSVRC", "inception_v3", 0.35)),
        *(("OpenImages", "VGG16", 0.05), ("OpenImages", "ResNet50", 0.05), ("CUB", "ViT", None), (None, None, None)),
    ],
)
def test_the_papers_percentiles(dataset, backbone, percentile):
    assert paper.ivr_percentile(dataset, backbone) == percentile


def test_percentiles_can_be_given(root):
    runs = store(root, 1), store(root, 2, backbone="ResNet50"), store(root, 3, split="val")
    options = *runs, "--metadata-root", root / "metadata"
    found = measured(*options, "--ivr", "0.1", "--ivr", "cub/resnet-50=0.2")["runs"]
    assert [each["ivr"] for each in found] == [{"value": each, "source": "given"} for each in (0.1, 0.2)]
    found = measured(*options[1:], "--ivr", "CUB/ResNet50=0.2")["runs"]
    assert [each["ivr"]["value"] for each in found] == [0.2]
    for text, message in {
        "1.2": "expected a fraction in [0, 1)",
        "CUB/VGG16": "expected a fraction in [0, 1)",
        "CUB/VGG61=0.1": "expected a data set and a backbone of RUNS (CUB/ResNet50, CUB/VGG16), found CUB/VGG61",
    }.items():
        assert message in run(*options, "--ivr", text, code=terminal.FAILED).stderr


def test_a_data_set_without_a_percentile_asks_for_one(root):
    options = store(root, 1, dataset="Own"), "--metadata-root", root / "metadata"
    message = run(*options, code=terminal.FAILED).stderr
    assert "store1: no IVR percentile for CAM on Own VGG16" in message and "--ivr Own/VGG16=0.45" in message
    assert measured(*options, "--ivr", "0.45")["cells"]["CAM", "ivr", "VGG16", "MaxBoxAccV2"]["value"] > 0


def test_a_field_name_of_the_data_set_finds_its_metadata(root):
    found = measured(store(root, 1, dataset="ImageNet"), "--metadata-root", root / "metadata")
    assert found["runs"][0]["metadata"] == str(root / "metadata/ILSVRC/test")


def test_published_is_beside_ours_in_all_formats(root):
    path = store(root, 1)
    options = path, "--metadata-root", root / "metadata", "--published", *SETTINGS
    value = result(maps(1), ["max"])["max"].max_box_acc_v2
    cell = f"{value:.2f}", f"(64.54, {value - 64.54:+.2f})"
    assert all(part in run(*options).stdout for part in cell)
    for name, parts in {"markdown": cell, "latex": [cell[0], "(64.54, "], "csv": [repr(value), "64.54"]}.items():
        out = root / f"table.{name}"
        assert run(*options, "--format", name, "--out", out).stdout == ""
        assert all(part in out.read_text() for part in parts), name
    run(*options, "--out", root / "table.txt")
    assert all(part in (root / "table.txt").read_text() for part in cell)
    other = run(*options, "--iou-thresholds", "0.5", code=terminal.FAILED)
    assert "--published, --iou-thresholds: expected the paper's 0.3 0.5 0.7, found 0.5" in other.stderr


def test_two_stores_of_a_cell_are_named(root):
    other = store(root, 2, dataset="CUB-200-2011", backbone="VGG16")
    message = run(store(root, 1), other, "--metadata-root", root / "metadata", code=terminal.FAILED).stderr
    assert "CAM on CUB VGG16" in message and str(root / "store1") in message and str(other) in message


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"method": None, "backbone": None}, "expected a manifest that names its method, backbone, found none"),
        ({"split": "val"}, "RUNS: expected a store of another split than val or train-fullsup"),
        ({"split": "extra"}, "metadata/CUB/extra"),
        ({"dataset": "cars"}, "no IVR percentile for CAM on cars VGG16"),
    ],
)
def test_what_a_store_must_be(root, manifest, message):
    options = store(root, 1, **manifest), "--metadata-root", root / "metadata"
    assert message in run(*options, code=terminal.FAILED).stderr


def test_arguments_that_do_not_fit(root):
    path = store(root, 1)
    assert "--metadata-root: needed" in run(path, code=terminal.FAILED).stderr
    assert (
        "RUNS, --published: expected CAM stores, the paper's own numbers, or both" in run(code=terminal.FAILED).stderr
    )
    nwc = run(path, "--metadata-root", root / "metadata", "--nwc", code=terminal.FAILED)
    assert "--nwc: expected a store" in nwc.stderr
    scores = root / "scores"
    with CamWriter(scores, Manifest("score maps", "CUB", "test", "CAM", "VGG16")) as writer:
        writer.add(IDS[:1], np.ones((1, 4, 4)))
    assert "expected CAMs, found score maps" in run(scores, code=terminal.FAILED).stderr


def test_missing_maps_are_left_out_and_counted(root):
    options = store(root, 1, num_maps=6), "--metadata-root", root / "metadata"
    found = measured(*options, code=terminal.PROBLEMS)
    assert list(found["missing"][str(root / "store1")]) == IDS[6:]
    values = result(maps(1)[:6], ["max"])
    assert found["cells"]["CAM", "max", "VGG16", "MaxBoxAccV2"]["value"] == values["max"].max_box_acc_v2
    assert "2 maps were left out" in run(*options, *SETTINGS, code=terminal.PROBLEMS).stderr
    run(*options, *SETTINGS, "--allow-missing")
    empty = store(root, 2, num_maps=0)
    assert "has none of the 8 images" in run(empty, *options[1:], *SETTINGS, code=terminal.FAILED).stderr
