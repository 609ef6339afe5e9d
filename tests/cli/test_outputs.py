"""What goes out: files whole or not at all, the table whatever happens to them, text that is not ours as it is.

In: a small store, wrong targets, odd names, closed and full outputs. Out: exit codes, files, printed text.
Source: none.
"""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shared import slow_but, write_split
from typer.testing import CliRunner

from wsolkern.cams import CamWriter, Manifest
from wsolkern.cli import app, terminal
from wsolkern.errors import ArgumentError
from wsolkern.report.plain import latex_text, markdown_text, visible

IDS = [f"part/{index}.jpg" for index in range(4)]
ODD = "x[/y]z[v1]$v$_|&%#\x1b[31m:dog:"  # markup, mathtext, Markdown, LaTeX, a terminal's red, an emoji
SHOWN = "x[/y]z[v1]$v$_|&%#\\x1b[31m:dog:"


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """cams/, metadata/CUB/test and val, runs/test and val (stores), result.json; only a failed test writes to it."""
    root = tmp_path_factory.mktemp("made")
    maps = np.random.default_rng(0).normal(size=(4, 5, 5)).astype(np.float32)
    for split in ("test", "val"):
        folder = root / "metadata" / "CUB" / split
        write_split(folder, IDS, size=(200, 150), box=lambda n: (20 + n, 10, 160 + n, 120), label=0)
        with CamWriter(root / "runs" / split, manifest(split)) as writer:
            writer.add(IDS, maps, classes=[0] * 4)
    (root / "cams" / "part").mkdir(parents=True)
    for image_id, cam in zip(IDS, maps, strict=True):
        np.save(root / "cams" / f"{image_id}.npy", cam)
    run(*commands(root)["evaluate"], "--json", root / "result.json")
    return root


def manifest(split, **names) -> Manifest:
    return Manifest(**({"dataset": "CUB", "split": split, "method": "CAM", "backbone": "VGG16"} | names))


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """--threads sets this variable for the whole process; what goes to the current folder goes to tmp_path."""
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "2")
    monkeypatch.chdir(tmp_path)


def run(*arguments, code: int = 0):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


def started(*arguments, prelude: str = "", **how):
    """A command as a process of its own."""
    code = f"{prelude}\nfrom wsolkern.cli import main; main()"
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60} | how
    environment = {**os.environ, **how.pop("env", {})}
    if prelude == FULL:  # what measures coverage would write a file of its own
        environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, **how)


def commands(made: Path) -> dict[str, list]:
    """Each command that writes files that options name, quick and complete but for these options."""
    store, metadata, quick = made / "runs" / "test", made / "metadata" / "CUB" / "test", ["--interval", ".1"]
    splits = ["--val", made / "runs" / "val", "--val-metadata", made / "metadata" / "CUB" / "val"]
    splits += ["--test", store, "--test-metadata", metadata]
    two = ["-n", "ivr:.1 ivr:.4"]
    return {
        "evaluate": ["evaluate", "--cams", made / "cams", "--metadata", metadata, "-n", "max", *quick],
        "sweep": ["sweep", store, "--metadata", metadata, *two, *quick],
        "select": ["select", *splits, *two, "--num-bootstrap", 40, *quick],
        "table": ["table", store, "--metadata-root", made / "metadata", "--ivr", ".4", *quick],
        "verify": ["verify", made / "result.json"],
        "diagnose": ["diagnose", store],
        "profile": ["profile", store, "--metadata", metadata, "-n", "max", *quick],
        "store": ["store", "info", store],
        "doctor": ["doctor"],
    }


OPTIONS = {
    "evaluate": {"--json": "a.json", "--resume": "a.state", "--per-image": "a.csv"},
    "sweep": {"--json": "a.json", "--csv": "a.csv", "--plot": "a.png", "--resume": "a.state"},
    "select": {"--json": "a.json", "--csv": "a.csv", "--resume": "a.state"},
    "table": {"--json": "a.json", "--out": "a.txt", "--resume": "a.state"},
    "verify": {"--json": "a.json"},
    "diagnose": {"--json": "a.json", "--csv": "a.csv", "--plot": "a.pdf", "--resume": "a.state"},
    "profile": {"--json": "a.json", "--trace": "b.json"},
    "store": {"--json": "a.json"},
    "doctor": {"--json": "a.json"},
}
EACH = [(command, option) for command, options in OPTIONS.items() for option in options]
TABLES = {
    "evaluate": "max",
    "sweep": "ivr:0.4",
    "select": "ivr:0.1",
    "table": "min-max",
    "verify": "result.json: holds",
    "diagnose": "maximum",
    "profile": "tree",
    "store": "VGG16",
    "doctor": "self-test",
}


def test_no_option_that_names_a_file_is_forgotten():
    """Whoever adds one, adds it above, or tests it as test_boxes.py and test_report_and_compare.py do those of theirs.

    --recipe, --weights and --pretrained are read, --tensorboard names none.
    """
    found = set()
    for name, command in [*_commands(app), *((f"store {n}", c) for n, c in _commands(_group("store")))]:
        for each in command.params:
            if each.name in ("json_file", "csv_file", "plot", "trace", "resume", "per_image") or (
                each.name == "out" and name not in ("extract", "train", "demo", "store export", "store merge")
            ):
                found.add((name.partition(" ")[0], each.opts[0]))
    others = ("boxes", "show", "figure", "report", "compare")
    elsewhere = {(command, option) for command in others for option in ("--out", "--json")}
    assert found == {*EACH, ("demo", "--json"), *elsewhere}


def _commands(group) -> list:
    import typer

    return list(typer.main.get_command(group).commands.items())


def _group(name: str):
    return next(each.typer_instance for each in app.registered_groups if each.name == name)


@pytest.mark.parametrize(("command", "option"), EACH)
def test_targets_are_checked_before_the_work(made, tmp_path, command, option):
    """Nothing is counted or left behind, whatever is wrong with the target."""
    name = OPTIONS[command][option]
    os.mkfifo(tmp_path / f"fifo{name}")
    (tmp_path / f"folder{name}").mkdir()
    (tmp_path / f"link{name}").symlink_to("/dev/null")
    before = sorted(os.listdir(tmp_path))
    wrong = {
        f"missing/{name}": "no such folder",
        f"fifo{name}": "expected a regular file, found a FIFO",
        f"folder{name}": "expected a regular file, found a folder",
        f"link{name}": "expected a regular file, found a device",
        "x" * 300 + name: "File name too long",
    }
    for target, message in wrong.items():
        done = run(*commands(made)[command], option, target, code=2)
        assert done.stdout == "" and "evaluating" not in done.stderr, target
        error = done.stderr.strip().splitlines()[-1]
        assert error.startswith(f"error: {option}: ") and f"{target}: {message}" in error
        assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("command", OPTIONS)
def test_files_are_written_beside_the_table(made, tmp_path, command):
    """All at once, with the longest names, over what is there and behind a link."""
    targets = {}
    for option, name in OPTIONS[command].items():
        stem, suffix = os.path.splitext(name)
        targets[option] = tmp_path / f"{stem * 240}{suffix}"
    for target in targets.values():
        target.with_name("target" + target.name[-10:]).write_text("")
        if ".state" not in target.name:  # an empty file is no state
            target.symlink_to(target.with_name("target" + target.name[-10:]))
    done = run(*commands(made)[command], *(each for pair in targets.items() for each in pair))
    assert TABLES[command] in (targets["--out"].read_text() if "--out" in targets else done.stdout)
    if "--json" in targets:
        assert isinstance(json.loads(targets["--json"].read_text()), dict)
    if "--csv" in targets:
        assert len({len(row) for row in csv.reader(io.StringIO(targets["--csv"].read_text()))}) == 1
    if "--plot" in targets:
        assert targets["--plot"].read_bytes()[:4] in (b"\x89PNG", b"%PDF")
    assert all(each.is_symlink() or each.suffix == ".state" for each in targets.values())
    assert [each for each in os.listdir(tmp_path) if "unfinished" in each] == []


FULL = (
    "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))"
)


@pytest.mark.parametrize(
    "command", slow_but(["sweep"], [each for each in OPTIONS if each not in ("profile", "doctor")])
)
def test_a_full_disk_costs_no_table_and_no_old_file(made, tmp_path, command):
    targets = {option: tmp_path / name for option, name in OPTIONS[command].items() if option != "--resume"}
    for target in targets.values():
        target.write_text("old")
    done = started(*commands(made)[command], *(each for pair in targets.items() for each in pair), prelude=FULL)
    printed, said = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == terminal.FAILED and TABLES[command] in printed and "Traceback" not in said
    for target in targets.values():
        assert f"error: {target}: File too large" in said and target.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == sorted(each.name for each in targets.values())


@pytest.mark.parametrize(
    "command", slow_but(["evaluate"], [each for each, names in OPTIONS.items() if "--resume" in names])
)
def test_a_state_that_cannot_be_saved_costs_no_table(made, tmp_path, command):
    state = tmp_path / "a.state"
    done = started(*commands(made)[command], "--resume", state, prelude=FULL)
    assert done.returncode == terminal.FAILED and TABLES[command] in done.stdout.decode()
    said = done.stderr.decode()
    if command == "select":  # the state is small, what the test's images are drawn from is larger
        assert f"error: {state}.rows: File too large" in said and os.listdir(tmp_path) == ["a.state.rows"]
        return
    assert f"error: {state}: File too large" in said and os.listdir(tmp_path) == []


def test_two_options_name_one_file(made, tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.png")
    arguments = commands(made)["sweep"]
    for pair in (("--json", "a.png"), ("--csv", "./a.png"), ("--csv", "link.csv"), ("--resume", tmp_path / "a.png")):
        said = run(*arguments, "--plot", "a.png", *pair, code=2).stderr
        assert "expected two files, found" in said and "--plot" in said and pair[0] in said
    assert os.listdir(tmp_path) == ["link.csv"]


@pytest.mark.parametrize(
    ("command", "option", "target"),
    [
        ("evaluate", "--json", "metadata/CUB/test/localization.txt"),
        ("evaluate", "--resume", "cams/part/0.jpg.npy"),
        ("sweep", "--csv", "runs/test/index.json"),
        ("sweep", "--json", "metadata/CUB/test/class_labels.txt"),
        ("select", "--json", "runs/val/manifest.json"),
        ("select", "--csv", "metadata/CUB/val/image_sizes.txt"),
        ("table", "--out", "metadata/CUB/val/image_ids.txt"),
        ("table", "--json", "runs/test/shards/000000.safetensors"),
        ("diagnose", "--csv", "runs/test/shards/000000.safetensors"),
        ("profile", "--trace", "runs/test/manifest.json"),
        ("store", "--json", "runs/test/index.json"),
    ],
)
def test_no_input_is_written_over(made, tmp_path, command, option, target):
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    (tmp_path / "link").symlink_to(made / target)
    for name in (made / target, tmp_path / "link"):
        said = run(*commands(made)[command], option, name, code=2).stderr
        assert f"error: {option}: {name} is a file that the command reads" in said
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_no_mask_is_written_over(made, tmp_path):
    from PIL import Image

    metadata, masks = tmp_path / "split", tmp_path / "masks"
    write_split(metadata, IDS, mask=lambda n: f"{n}.png")
    masks.mkdir()
    for n in range(4):
        Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(masks / f"{n}.png")
    before = (masks / "1.png").read_bytes()
    arguments = ["sweep", made / "runs/test", "--metadata", metadata, "--mask-root", masks, "-n", "ivr:.1 ivr:.4"]
    said = run(*arguments, "--plot", masks / "1.png", code=2).stderr
    assert f"--plot: {masks / '1.png'} is a mask that the command reads" in said
    assert (masks / "1.png").read_bytes() == before and len(os.listdir(masks)) == 4
    for _ in range(2):  # beside them there may be others, again and again
        run(*arguments, "--plot", masks / "plot.png", "--interval", ".1")


def test_plots_are_checked_before_the_work(made, tmp_path):
    sweep, diagnose = commands(made)["sweep"], commands(made)["diagnose"]
    for name in ("plot", "plot.xyz", "plot.", ".png", "plot.pgf", "plot.rgba"):
        for arguments in (sweep, diagnose):
            assert f"--plot: {name}: expected a name that ends in " in run(*arguments, "--plot", name, code=2).stderr
    one = [each if each != "ivr:.1 ivr:.4" else "ivr:.1 max" for each in sweep]
    assert "--plot: expected two percentiles of one normalization" in run(*one, "--plot", "one.png", code=2).stderr
    hide = "import sys; sys.modules['matplotlib'] = None"
    done = started(*sweep, "--plot", "a.png", prelude=hide)
    assert done.returncode == 2 and b"pip install 'wsolkern[report]'" in done.stderr and done.stdout == b""
    run(*sweep, "--plot", "a.PNG")
    assert (tmp_path / "a.PNG").read_bytes()[:4] == b"\x89PNG"


# Text that is not ours


@pytest.fixture
def odd(made, tmp_path) -> dict[str, Path]:
    """Metadata, a folder of maps and stores whose paths and names are what consoles, TeX and Markdown take badly."""
    import shutil

    root = tmp_path / ODD
    shutil.copytree(made / "metadata", root / "metadata")
    shutil.copytree(made / "cams", root / "cams")
    shutil.copytree(made / "metadata" / "CUB", root / "metadata" / ODD.replace("/", ""))
    names = {"dataset": ODD.replace("/", ""), "backbone": f"{ODD}\nVGG\ud800", "method": f"{ODD}\tCAM"}
    for split in ("test", "val"):
        with CamWriter(root / "runs" / split, manifest(split, **names)) as writer:
            writer.add(IDS, np.random.default_rng(0).normal(size=(4, 5, 5)).astype(np.float32), classes=[0] * 4)
    run(*commands(root)["evaluate"], "--json", root / "result.json")
    return root


@pytest.mark.parametrize(
    ("command", "encoding"),
    slow_but(
        [("sweep", "ascii"), ("table", "utf-8")],
        [
            *((each, "utf-8") for each in OPTIONS if each not in ("doctor", "profile")),
            ("sweep", "ascii"),
            ("table", "ascii"),
        ],
    ),
)
def test_names_are_printed_as_they_are(odd, command, encoding):
    """Exit code 0, the whole name, and no control character reaches the terminal."""
    arguments = commands(odd)[command]
    if command == "store":
        arguments = ["store", "info", odd / "runs" / "test"]
    done = started(*arguments, env={"PYTHONIOENCODING": encoding})
    printed = (done.stdout + done.stderr).decode(encoding)
    assert done.returncode == 0, printed
    assert SHOWN in printed or SHOWN.replace("/", "") in printed
    assert "\x1b" not in printed


def test_an_error_names_what_it_is_about(odd):
    said = run("sweep", odd / "runs" / "no", "--metadata", odd / "metadata" / "CUB" / "test", code=2).stderr
    assert f"{SHOWN}/runs/no: no such folder" in said and said.count("\n") == 1


def test_names_in_files(odd, tmp_path):
    """A picture draws the name; Markdown and LaTeX escape it; CSV and JSON give it back."""
    table = commands(odd)["table"]
    run(*table, "--format", "csv", "--out", "t.csv", "--json", "t.json")
    rows = list(csv.DictReader(io.StringIO(Path("t.csv").read_text())))
    assert {row["method"] for row in rows} == {SHOWN + "\\tCAM"}
    assert {row["backbone"] for row in rows} == {SHOWN + "\\nVGG\\ud800"}
    cells = json.loads(Path("t.json").read_text())["tables"][0]["cells"]
    assert {cell["method"] for cell in cells} == {ODD + "\tCAM"}
    latex = run(*table, "--format", "latex").stdout
    assert r"x[/y]z[v1]\$v\$\_\textbar{}\&\%\#\textbackslash{}x1b[31m:dog:\textbackslash{}tCAM" in latex
    assert all(line.count("&") - line.count(r"\&") in (0, 2) for line in latex.splitlines())
    lines = [line for line in run(*table, "--format", "markdown").stdout.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in lines} == {4}
    assert r"x\[/y\]z\[v1\]\$v\$\_\|&%#\\x1b" in lines[2]
    for command, option, name in (("sweep", "--plot", "a.svg"), ("diagnose", "--plot", "b.svg")):
        run(*commands(odd)[command], option, name)
        assert Path(name).read_bytes().startswith(b"<?xml")


def test_pictures_take_no_name_for_mathematics(tmp_path):
    from matplotlib.figure import Figure

    from wsolkern.report.drawing import PLAIN, save_picture

    figure = Figure()
    figure.suptitle(r"cub$\frac$_x", **PLAIN)
    for name in ("a.png", "a.pdf", "a.svg", "a.jpg", "a.eps"):
        save_picture(tmp_path / name, figure)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match="expected a name that ends in"):
        save_picture(tmp_path / "a", figure)


def test_escapes():
    assert visible("a\x1b]\x07\x9b\u202e\udcffé日本\n\t") == "a\\x1b]\\x07\\x9b\\u202e\\udcffé日本\\n\\t"
    assert visible("a\nb\tc\r", lines=True) == "a\nb\tc\\r"
    assert latex_text(r"\~^<>|&%$#_{}–") == (
        r"\textbackslash{}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}\&\%\$\#\_\{\}--"
    )
    assert markdown_text("a|b_c*[d]<e>`\\\n") == r"a\|b\_c\*\[d\]\<e\>\`\\\\n"


def test_a_progress_bar_takes_no_name_for_markup(capsys):
    with terminal.progress_bar() as bar:
        bar.update(bar.add_task(f"reading {ODD}", total=1), completed=1)
    assert f"reading {SHOWN}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "encoding"),
    slow_but(
        [("evaluate", "utf-8")], [("evaluate", "utf-8"), ("select", "utf-8"), ("sweep", "ascii"), ("diagnose", "ascii")]
    ),
)
def test_names_that_are_no_text(made, tmp_path, command, encoding):
    """Bytes that no encoding knows: printed as escapes, written to JSON, never an error."""
    import shutil

    root = os.fsencode(tmp_path) + b"/caf\xe9"
    shutil.copytree(os.fsencode(made), root)
    odd = Path(os.fsdecode(root))
    done = started(*commands(odd)[command], "--json", "a.json", env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0 and "caf\\udce9" in done.stdout.decode(encoding), done.stderr
    assert "caf\\udce9" in Path("a.json").read_text()
    if command == "diagnose":
        run(*commands(odd)[command], "--csv", "a.csv", "--plot", "a.png")
        assert "caf\\udce9" in Path("a.csv").read_text()


# Standard output


@pytest.mark.parametrize("how", slow_but([[]], [[], ["--json", "-"], ["--markdown"]]))
def test_nobody_reads_on(made, tmp_path, how):
    """Behind ``| head`` the files are written all the same, without a traceback."""
    read, written = os.pipe()
    os.close(read)
    arguments = [*commands(made)["sweep"], "--csv", "a.csv", *how]
    done = started(*arguments, stdout=written)
    os.close(written)
    assert (done.returncode, b"Traceback" in done.stderr, b"rror" in done.stderr) == (terminal.UNREAD, False, False)
    assert Path("a.csv").read_text().startswith("normalization,")


@pytest.mark.parametrize(
    "command", slow_but(["sweep"], [each for each in OPTIONS if each not in ("profile", "doctor")])
)
def test_standard_output_is_full(made, command):
    done = started(*commands(made)[command], "--json", "a.json", stdout=open("/dev/full", "wb"))
    assert done.returncode == terminal.FAILED and b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    assert b"error: standard output: No space left on device" in done.stderr
    assert isinstance(json.loads(Path("a.json").read_text()), dict)


@pytest.mark.parametrize("where", slow_but(["full"], ["full", "unread"]))
def test_messages_that_cannot_be_written_cost_no_table(made, where):
    """A log on a full disk, or a reader of it that has gone."""
    read, written = os.pipe()
    os.close(read)
    log = open("/dev/full", "wb") if where == "full" else written
    done = started(*commands(made)["sweep"], "--json", "a.json", stderr=log)
    assert done.returncode == 0 and TABLES["sweep"] in done.stdout.decode()
    assert json.loads(Path("a.json").read_text())["num_images"] == 4
    wrong = started("sweep", "nowhere", "--metadata", made / "metadata/CUB/test", stderr=log)
    os.close(written)
    assert (wrong.returncode, wrong.stdout) == (terminal.FAILED, b"")


def test_closed_streams(made):
    closed = "import sys, os; os.close(1); os.close(2); sys.stdout = sys.stderr = None"
    done = started(*commands(made)["sweep"], "--json", "a.json", prelude=closed)
    assert done.returncode == 0 and json.loads(Path("a.json").read_text())["num_images"] == 4


def test_json_on_standard_output_is_all_there_is(made):
    for command, options in OPTIONS.items():
        if "--json" in options:
            assert isinstance(json.loads(run(*commands(made)[command], "--json", "-").stdout), dict)
    assert not Path("-").exists()


# What is left out, interrupted, or too much


def test_the_first_ten_problems_are_printed(made, tmp_path):
    ids = [f"{n}.jpg" for n in range(3000)]
    write_split(tmp_path / "many", [*IDS, *ids], size=(200, 150), box=(20, 10, 160, 120))
    arguments = ["evaluate", "--cams", made / "cams", "--metadata", tmp_path / "many", "-n", "max"]
    done = run(*arguments, "--json", "a.json", code=terminal.PROBLEMS)
    assert (
        "3,000 of 3,004 maps were left out:" in done.stderr and "  and 2,990 more; --json FILE lists all" in done.stderr
    )
    assert sum(line.startswith("  ") for line in done.stderr.splitlines()) == 11
    assert "4 images" in done.stdout and len(json.loads(Path("a.json").read_text())["missing"]) == 3000


def test_nothing_counted_leaves_the_old_file(made, tmp_path):
    (tmp_path / "empty").mkdir()
    Path("a.json").write_text("old")
    metadata = made / "metadata" / "CUB" / "test"
    done = run("evaluate", "--cams", "empty", "--metadata", metadata, "--json", "a.json", code=terminal.FAILED)
    assert "no map could be read" in done.stderr and "--json" not in done.stderr and done.stdout == ""
    assert Path("a.json").read_text() == "old"


@pytest.mark.parametrize("place", slow_but(["elsewhere"], ["here", "elsewhere", "nowhere"]))
def test_an_interrupted_run_keeps_its_counts_somewhere(made, tmp_path, place):
    """In the current folder; where that is read-only, among the temporary files; the old JSON stays."""
    (tmp_path / "temporary").mkdir()
    Path("a.json").write_text("old")
    prelude = f"""
import errno, os, signal
from wsolkern.studies import counting
from wsolkern.studies.counting import SplitCount
count, save = counting.count_maps, SplitCount.save
def interrupted(*arguments, **how):
    found = count(*arguments, **how)
    os.kill(os.getpid(), signal.SIGINT)
    return found
def full(self, path):
    if {place!r} == "nowhere" or {place!r} == "elsewhere" and "temporary" not in str(path):
        raise OSError(errno.EROFS, "Read-only file system", str(path))
    save(self, path)
counting.count_maps, SplitCount.save = interrupted, full
"""
    arguments = [*commands(made)["sweep"], "--json", "a.json"]
    done = started(*arguments, prelude=prelude, env={"TMPDIR": str(tmp_path / "temporary")})
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (terminal.INTERRUPTED, b""), said
    assert Path("a.json").read_text() == "old"
    assert "interrupted: 4 of 4 images are counted" in said
    if place == "nowhere":
        assert "and are lost" in said and said.count("Read-only file system") == 2
        return
    state = said.rpartition("--resume ")[2].strip()
    assert ("temporary" in state) == (place == "elsewhere")
    assert "4 images" in run(*commands(made)["sweep"], "--resume", state).stdout


TOO_MUCH = {
    "interval": (["--interval", "1e-12"], "--interval: expected a fraction in (0, 1] that gives at most 100,000"),
    "interval_nan": (["--interval", "nan"], "--interval: expected a fraction"),
    "size_0": (["--size", "0"], "--size: expected SIDE or HEIGHTxWIDTH in pixels, integers from 1 to 4096, found '0'"),
    "size": (["--size", "100000000"], "--size: expected SIDE"),
    "size_digits": (["--size", "٢٢٤"], "--size: expected SIDE"),
    "size_long": (["--size", "9" * 5000], "--size: expected SIDE"),
    "iou_nan": (["--iou-thresholds", "nan"], "--iou-thresholds: expected fractions"),
    "iou_none": (["--iou-thresholds", ""], "--iou-thresholds: expected fractions"),
    "iou_2": (["--iou-thresholds", "0.5 2"], "--iou-thresholds: expected fractions"),
    "iou_twice": (["--iou-thresholds", "0.5 .50"], "--iou-thresholds: expected each fraction once"),
    "counts": (["-n", "ivr:0..0.999/0.001 pas:0..0.999/0.001", "--interval", "0.00001"], "GiB of memory"),
    "threads": (["--threads", "99999999999"], "--threads"),
}


@pytest.mark.parametrize(("arguments", "message"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_too_much_is_refused_before_the_work(made, arguments, message):
    for command in ("evaluate", "sweep"):
        store = ["--cams", made / "cams"] if command == "evaluate" else [made / "runs/test"]
        done = run(command, *store, "--metadata", made / "metadata/CUB/test", *arguments, "--json", "a.json", code=2)
        assert message in done.stderr and done.stdout == "" and os.listdir() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "pxap"], "--metric: expected one of MaxBoxAccV2"),
        (["--num-bootstrap", 10**12], "--num-bootstrap"),
        (["--confidence", "nan"], "confidence: expected a fraction"),
        (["--iou-thresholds", "0.3 0.3"], "each fraction once"),
    ],
)
def test_select_refuses_before_the_work(made, arguments, message):
    done = run(*commands(made)["select"], *arguments, code=2)
    assert message in done.stderr and "4/4" not in done.stderr


@pytest.mark.parametrize("device", ["tpu", "meta", "", "cpu:x"])
def test_devices_that_compute_nothing(device):
    from wsolkern.machine import place_of

    with pytest.raises(ArgumentError, match="^device: expected cpu or cuda, found"):
        place_of(device)


def test_arguments_that_are_no_json():
    from wsolkern.cli.options import parse_arguments

    deep = "[" * 100_000
    assert parse_arguments([f"a={deep}", "b=1"]) == {"a": deep, "b": 1}


# Folders


def test_folders_in_place_of_files_and_files_in_place_of_folders(made, tmp_path):
    os.mkfifo("fifo")
    Path("file").write_text("mine")
    store, before = made / "runs/test", sorted(os.listdir())
    for wrong in ("fifo", "file", "file/below", "/dev/null"):
        for arguments in (
            ["store", "merge", wrong, store],
            ["store", "import", made / "cams", wrong],
            ["store", "export", store, wrong],
            ["make-dataset", "digits", wrong],
            ["demo", "--out", wrong],
            ["extract", "torch.nn:Identity", "--images", made, "-o", wrong],
            ["train", "--dataset", made, "--metadata", made, "-o", wrong],
        ):
            said = run(*arguments, code=2).stderr.splitlines()
            assert len(said) == 1 and f"{wrong}: expected a folder, found a file" in said[0], arguments
    assert sorted(os.listdir()) == before and Path("file").read_text() == "mine"


def test_stores_that_are_none(tmp_path):
    os.mkfifo("fifo")
    for wrong in ("fifo", "missing", "/dev/null", "."):
        assert "no CAM store" in run("store", "info", wrong, code=2).stderr
        assert f"  {wrong}: no CAM store" in run("store", "verify", wrong, code=1).stderr
        assert "no CAM store" in run("diagnose", wrong, code=2).stderr


def test_import_and_export_do_not_take_their_own_files(made, tmp_path):
    import shutil

    shutil.copytree(made / "cams", "cams"), shutil.copytree(made / "runs/test", "store")
    assert "is a CAM store already" in run("store", "import", "store", "other", code=2).stderr
    for wrong in ("cams", "cams/store"):
        assert "expected a store outside of cams" in run("store", "import", "cams", wrong, code=2).stderr
    for wrong in ("store", "store/shards"):
        assert "expected a folder outside of the store" in run("store", "export", "store", wrong, code=2).stderr
    assert sorted(os.listdir()) == ["cams", "store"] and len(list(Path("cams").rglob("*"))) == 5
    assert run("store", "verify", "store").exit_code == 0


def test_an_export_keeps_old_files_whole(made, tmp_path):
    out = tmp_path / "out"
    run("store", "export", made / "runs/test", out)
    for image_id in IDS:
        np.testing.assert_array_equal(np.load(out / f"{image_id}.npy"), np.load(made / "cams" / f"{image_id}.npy"))
    before = {path: path.read_bytes() for path in out.rglob("*.npy")}
    prelude = FULL.replace("(10, 10)", "(200, 200)")
    done = started("store", "export", made / "runs/test", out, "-n", "max", "--size", "50", prelude=prelude)
    assert done.returncode == 2 and f"error: {out}/{IDS[0]}.npy: File too large".encode() in done.stderr
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / f"{IDS[0]}.npy").unlink()
    os.mkfifo(out / f"{IDS[0]}.npy")
    assert "found a FIFO" in run("store", "export", made / "runs/test", out, code=2).stderr


def test_the_demo_keeps_metadata_that_are_not_its_own(made, tmp_path):
    import shutil

    shutil.copytree(made / "metadata" / "CUB", "out/metadata")
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    said = run("demo", "--out", "out", code=2).stderr
    assert "expected metadata of an earlier demo or none" in said
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before
    assert "--resolution: expected a multiple of 32" in run("demo", "--resolution", 100, code=2).stderr
