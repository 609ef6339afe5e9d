"""``wsolkern report`` and ``wsolkern compare``: the files they write, and what they refuse before the work.

In: a small world. Out: pages, JSON, messages.
Source: the studies, which are tested where they are.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1] / "studies"))
from small_world import SIZE, furnish, split_of

from wsolkern import studies
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.cli import app
from wsolkern.report import notebook, pages
from wsolkern.studies import evaluation, reporting

HOW = ["--size", SIZE, "--interval", 0.05, "--num-bootstrap", 50, "--confidence", 0.9]
SOME = [*HOW, "-n", "minmax ivr:0.3", "--sweep", "ivr:0.1..0.2/0.1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The small world, with a second run of CUB's test that lacks two images."""
    root = furnish(tmp_path_factory.mktemp("world"))
    store = CamStore(root / "CUB-test")
    with CamWriter(root / "other", Manifest(dataset="CUB", split="test", method="HaS")) as writer:
        for each in list(store.image_ids)[2:]:
            writer.add([each], store.read(each, nwc=True)[None])
    return root


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def report(world, out, *more, code=0, store="CUB-test", split="CUB/test"):
    return run("report", world / store, "--metadata", world / "metadata" / split, "-o", out, *SOME, *more, code=code)


def compare(world, out, *more, code=0, second="other"):
    runs = world / "CUB-test", world / second
    return run("compare", *runs, "--metadata", world / "metadata/CUB/test", "-o", out, *SOME, *more, code=code)


def scripts(path) -> dict[str, dict]:
    found = re.findall(r'<script type="application/json" id="(result[-\d]*)">(.*?)</script>', path.read_text(), re.S)
    return {name: json.loads(text) for name, text in found}


@pytest.fixture(scope="module")
def written(world, tmp_path_factory):
    """A page of each kind, and what was printed: name -> (page, JSON, output)."""
    folder, found = tmp_path_factory.mktemp("pages"), {}
    for name, make, more in (
        ("boxes", report, {}),
        ("masks", report, {"store": "OpenImages-test", "split": "OpenImages/test"}),
        ("two", compare, {"code": 1}),
    ):
        out, content = folder / f"{name}.html", folder / f"{name}.json"
        options = ["--mask-root", world] if name == "masks" else ["--title", "<script>alert(1)</script>"]
        done = make(world, out, "--json", content, *options, **more)
        found[name] = out, json.loads(content.read_text()), " ".join(done.output.split())
    return found


def test_a_report_holds_its_result_and_verify_makes_it_again(written, tmp_path):
    out, content, printed = written["boxes"]
    assert f"{out}: open it in a browser; wsolkern verify {out} makes its figures again" in printed
    (held,) = scripts(out).values()
    assert held == {name: each for name, each in content["runs"][0]["result"].items() if name != "seconds"}
    assert [row["normalization"] for row in held["normalizations"]] == ["minmax", "ivr:0.3", "ivr:0.1", "ivr:0.2"]
    assert "holds" in run("verify", out).output
    copy = tmp_path / "changed.html"
    copy.write_text(out.read_text().replace('"num_images": 40', '"num_images": 39'))
    assert "does not hold" in run("verify", copy, code=1).output


def test_two_reports_are_the_same_bytes(world, written, tmp_path):
    report(world, tmp_path / "again.html", "--title", "<script>alert(1)</script>")
    assert (tmp_path / "again.html").read_bytes() == written["boxes"][0].read_bytes()


@pytest.mark.parametrize("kind", ["boxes", "masks", "two"])
def test_a_page_loads_nothing(written, kind):
    text = written[kind][0].read_text()
    assert ("The objects of this split are masks." in text) == (kind == "masks")
    assert "<script>alert(1)" not in text and (kind == "masks") != ("&lt;script&gt;alert(1)" in text)
    assert text[:15].lower() == "<!doctype html>"
    loading = r"<(?:script|img|link|iframe|source|object|embed)[^>]*\s(?:src|href|data)\s*=\s*[\"']?(?!data:)\w"
    assert not re.search(loading, text)
    assert not re.search(r"@import|url\(\s*[\"']?https?:|fetch\(|XMLHttpRequest|WebSocket", text)


def test_a_comparison_is_of_the_images_of_both(written):
    out, content, printed = written["two"]
    assert "other: 2 maps were left out, the first is CUB-test-0.jpg" in printed
    assert content["num_images"] == 38 and [each["name"] for each in content["runs"]] == ["CUB-test", "other"]
    for each in content["differences"]["MaxBoxAccV2"]:
        low, high = each["interval"]
        assert f"{each['first']}: {each['figure']:+.2f} [{low:+.2f}, {high:+.2f}]" in printed
    assert [*scripts(out)] == ["result", "result-2"]
    assert "holds" in run("verify", out, "--run", 2).output


def test_names_of_classes_come_from_beside_the_split(world, tmp_path):
    copy = tmp_path / "metadata"
    shutil.copytree(world / "metadata/CUB", copy)
    (copy / "class_names.txt").write_text("sparrow\n<i>wren</i>\ncrow\n")
    arguments = "report", world / "CUB-test", "--metadata", copy / "test", "-o", tmp_path / "page.html", *SOME
    run(*arguments)
    text = (tmp_path / "page.html").read_text()
    assert "sparrow" in text and "<i>wren" not in text and "&lt;i&gt;wren" in text
    (tmp_path / "names.txt").write_text("only one\n")
    done = run(*arguments, "--classes", tmp_path / "names.txt", code=2)
    assert "--classes: expected a name for each class up to 2, found 1" in " ".join(done.output.split())


def test_a_notebook_shows_the_page_itself(world):
    split = split_of(world, "CUB/test")
    how = {"size": (SIZE, SIZE), "num_resamples": 50, "confidence": 0.9, "candidates": None}
    found = notebook.widget(world / "CUB-test", world / "metadata/CUB/test", "minmax", height=300, **how)
    assert found.html == pages.html_of(studies.report(world / "CUB-test", split, "minmax", **how))
    shown = found._repr_html_()
    assert shown.startswith("<iframe") and 'srcdoc="&lt;!' in shown and shown.count("<") == 2
    assert "allow-same-origin" not in shown and "height: 300px" in shown


def test_images_that_cannot_be_read_are_told(world, tmp_path):
    for number, each in enumerate(split_of(world, "CUB/test").image_ids[:38]):
        Image.new("RGB", (60, 48), (number, 0, 0)).save(tmp_path / each)
    done = report(world, tmp_path / "page.html", "--images", tmp_path)
    told = f"{tmp_path}: 2 of 40 images cannot be read, the first is CUB-test-38.jpg; the viewer shows their maps alone"
    assert told in " ".join(done.output.split())
    text = (tmp_path / "page.html").read_text()
    assert len(re.findall(r'"/9j/[^"]*"', text)) == 38  # JPEG in base64
    report(world, tmp_path / "links.html", "--images", tmp_path, "--no-thumbnails")
    assert '"/9j/' not in (tmp_path / "links.html").read_text()
    assert '"CUB-test-0.jpg"' in (tmp_path / "links.html").read_text()


@pytest.mark.slow
def test_a_notebook_compares_two_runs(world, tmp_path):
    how = {"size": (SIZE, SIZE), "num_resamples": 50, "confidence": 0.9, "candidates": None}
    found = notebook.widget(world / "CUB-test", split_of(world, "CUB/test"), "minmax", second=world / "other", **how)
    assert found.report.is_comparison
    found.save(tmp_path / "two.html")
    assert (tmp_path / "two.html").read_text() == found.html


BAD = {
    "no_html": (["-o", "page.pdf"], "--out: expected a name that ends in .html, found page.pdf"),
    "no_folder": (["-o", "none/page.html"], "--out: "),
    "same_file": (["-o", "page.html", "--json", "page.html"], "--out, --json: expected two files"),
    "normalizations": (["-n", "softmax"], "softmax"),
    "score_maps": (["--score-maps", "-n", "minmax"], "--normalizations: score maps are normalized already"),
    "contours": (["--contours", "both"], "--contours: expected all or largest, found 'both'"),
    "sweep": (["--sweep", "ivr:2"], "percentile 2.0 is not a fraction"),
    "resamples": (["--num-bootstrap", "3", "--confidence", "0.99"], "expected at least"),
    "confidence": (["--confidence", "95"], "confidence"),
    "images": (["--images", "none"], "none: no such folder of images"),
    "classes": (["--classes", "none.txt"], "none.txt"),
    "masks": (["--mask-root", "."], "--mask-root: "),
    "size": (["--size", "0"], "--size: "),
    "interval": (["--interval", "2"], "--interval"),
    "device": (["--device", "tpu"], "tpu"),
    "metadata": (["--metadata", "none"], "none"),
}


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_before_the_work(world, tmp_path, monkeypatch, command, case):
    options, text = BAD[case]
    monkeypatch.chdir(tmp_path)
    for study in (evaluation, reporting):
        monkeypatch.setattr(study, "run_pass", lambda *_, **__: pytest.fail("it began"))
    stores = [world / "CUB-test", world / "other"][: 1 + (command == "compare")]
    given = ["--metadata", world / "metadata/CUB/test", "-o", "page.html", *SOME]
    done = run(command, *stores, *given, *options, code=2)
    message = " ".join(done.output.split())
    assert "error: " in message and text in message and "Traceback" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--out", "--json"])
def test_targets_are_checked_before_the_work(world, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    for study in (evaluation, reporting):
        monkeypatch.setattr(study, "run_pass", lambda *_, **__: pytest.fail("it began"))
    name = {"--out": "a.html", "--json": "a.json"}[option]
    os.mkfifo(f"fifo{name}")
    Path(f"folder{name}").mkdir()
    Path(f"link{name}").symlink_to("/dev/null")
    before = sorted(os.listdir())
    for target, text in (
        (f"missing/{name}", "no such folder"),
        (f"fifo{name}", "expected a regular file, found a FIFO"),
        (f"folder{name}", "expected a regular file, found a folder"),
        (f"link{name}", "expected a regular file, found a device"),
    ):
        done = report(world, "page.html", option, target, code=2)
        assert f"error: {option}: {target}: {text}" in " ".join(done.output.split())
        assert sorted(os.listdir()) == before


def test_a_full_disk_costs_no_table_and_no_old_file(world, tmp_path):
    """Everything that is written to a file of more than ten bytes fails."""
    for name in ("page.html", "page.json"):
        (tmp_path / name).write_text("old")
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))"
    code = f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {full}"
    files = ["-o", tmp_path / "page.html", "--json", tmp_path / "page.json"]
    arguments = ["report", world / "CUB-test", "--metadata", world / "metadata/CUB/test", *files, *SOME]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", f"{code}\nfrom wsolkern.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 2 and "ivr:0.3" in done.stdout and "Traceback" not in done.stderr
    for name in ("page.html", "page.json"):
        assert f"{tmp_path / name}: File too large" in " ".join(done.stderr.split())
        assert (tmp_path / name).read_text() == "old"


def test_stores_that_are_not_there_or_of_other_images(world, tmp_path):
    given = ["--metadata", world / "metadata/CUB/test", "-o", tmp_path / "page.html", *HOW]
    for stores, text in (
        (["report", world / "CUB-test", "--score-maps"], "holds raw CAMs, expected score maps"),
        (["report", tmp_path / "none"], "none"),
        (["report", world / "CUB-val"], "has none of the 40 images"),
        (["compare", world / "CUB-test", world / "CUB-val"], "has none of the 40 images"),
        (["compare", world / "CUB-test", world / "CUB-test"], "RUN_A, RUN_B: expected two runs"),
    ):
        done = run(*stores, *given, code=2)
        assert text in " ".join(done.output.split())
    assert not (tmp_path / "page.html").exists()


def test_a_page_does_not_replace_what_is_read(world, tmp_path):
    copy = tmp_path / "names.html"
    copy.write_text("a\nb\nc\n")
    done = report(world, copy, "--classes", copy, code=2)
    assert "is a file that the command reads" in " ".join(done.output.split())
    assert copy.read_text() == "a\nb\nc\n"


def test_without_jinja2_the_extra_is_named(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = report(world, tmp_path / "page.html", code=2)
    assert "pip install 'wsolkern[report]'" in " ".join(done.output.split())
