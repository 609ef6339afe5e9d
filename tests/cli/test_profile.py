"""Profiles: which stages there are, that their times, bytes and maps add up, and that nothing else changes.

In: small generated maps, functions and stores. Out: stage times, JSON, traces, exit codes, what limits a run.
Source: the spans of the same profile, and counts of maps and bytes known beforehand.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared import write_split
from typer.testing import CliRunner

from wsolkern import Evaluator, normalize
from wsolkern.cams import CamWriter, Manifest, extract
from wsolkern.cli import app, terminal
from wsolkern.datasets.images import ImageFolder, Preprocessing
from wsolkern.profiling import HOST, OTHER, STAGES, Profile, StageTime, stage, timed
from wsolkern.studies.timing import Findings

NUM_IMAGES, SIZE = 11, (20, 24)
NUM_PIXELS = SIZE[0] * SIZE[1]
IDS = [f"part/{index}.jpg" for index in range(NUM_IMAGES)]
NATIVE = ["resize", "statistics", "digitize", "tree", "gather", "reduce"]


def cams(rows: int = 7) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(NUM_IMAGES, rows, rows)).astype(np.float32)


def evaluator(**truth) -> Evaluator:
    truth = truth or {"boxes": {each: np.array([[2, 3, 12, 9]]) for each in IDS}}
    return Evaluator(("minmax", "ivr:0.3"), size=SIZE, thresholds=np.arange(0, 1, 0.05), **truth)


def by_name(profile: Profile) -> dict[str, StageTime]:
    return {each.name: each for each in profile.stages}


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def test_without_a_profile_nothing_is_kept():
    items = [1, 2]
    with stage("read") as first, stage("resize") as second:
        first.moved(1, 1)
    assert first is second
    assert timed("read", items, lambda item: (item, 1)) is items
    with Profile() as profile:
        pass
    assert [each.name for each in profile.stages] == [OTHER]


def test_a_stage_inside_another_is_counted_once():
    with Profile(with_spans=True) as profile:
        with stage("outer") as outer:
            outer.moved(10, 1)
            with stage("inner") as inner:
                inner.moved(5)
            with stage("inner"):
                pass
    found, spans = by_name(profile), profile.spans
    assert [each.name for each in spans] == ["inner", "inner", "outer"]
    lengths = [each.end - each.begin for each in spans]
    assert nanoseconds(found["inner"].busy_seconds) == lengths[0] + lengths[1]
    assert nanoseconds(found["outer"].busy_seconds) == lengths[2] - lengths[0] - lengths[1]
    assert (found["outer"].num_bytes, found["outer"].num_maps, found["inner"].num_bytes) == (10, 1, 5)
    assert all(0 <= each.begin <= each.end <= nanoseconds(profile.seconds) for each in spans)


def test_busy_time_is_summed_over_threads():
    barrier = threading.Barrier(3)

    def work():
        with stage("mine") as timer:
            timer.moved(100, 2)
            barrier.wait()  # so that all three are in it at once

    threads = [threading.Thread(target=work) for _ in range(3)]
    with Profile(with_spans=True) as profile:
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    mine = by_name(profile)["mine"]
    assert (mine.num_threads, mine.num_bytes, mine.num_maps) == (3, 300, 6)
    assert nanoseconds(mine.busy_seconds) == sum(each.end - each.begin for each in profile.spans)
    assert mine.busy_seconds <= 3 * profile.seconds and mine.seconds == mine.busy_seconds / 3
    assert len({each.thread for each in profile.spans}) == 3


def test_waiting_for_items_is_a_stage():
    with Profile() as profile:
        assert list(timed("read", iter("abc"), lambda item: (ord(item), 1))) == list("abc")
    assert by_name(profile)["read"].num_bytes == sum(map(ord, "abc"))
    assert by_name(profile)["read"].num_maps == 3


def test_a_profile_that_fails_ends(monkeypatch):
    with pytest.raises(ZeroDivisionError), Profile() as profile:
        with pytest.raises(RuntimeError, match="already"), Profile():
            pass
        with stage("mine"):
            raise ZeroDivisionError
    assert "mine" in by_name(profile)
    with Profile() as another:
        pass
    assert "mine" not in by_name(another)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_stages_of_boxes(native, monkeypatch, num_threads):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", str(num_threads))
    plain, profiled = evaluator(), evaluator()
    plain.update(cams(), IDS)
    with Profile(with_spans=True) as profile:
        profiled.update(cams(), IDS)
    assert profiled == plain
    found = by_name(profile)
    assert [each.name for each in profile.stages] == [*NATIVE, OTHER]
    assert {found[name].num_maps for name in NATIVE} == {NUM_IMAGES}
    assert all(1 <= found[name].num_threads <= num_threads for name in NATIVE)
    assert all(found[name].busy_seconds <= num_threads * profile.seconds for name in NATIVE)
    assert found["resize"].num_bytes == NUM_IMAGES * NUM_PIXELS * 8
    assert found["tree"].num_bytes == NUM_IMAGES * NUM_PIXELS * 2
    spans = [each for each in profile.spans if each.thread < 0]
    for name in NATIVE[:-1]:  # reduce has a span of Python, too
        lengths = [each.end - each.begin for each in spans if each.name == name]
        assert nanoseconds(found[name].busy_seconds) == sum(lengths) > 0
    assert profile.num_spans_left_out == 0 and len({each.thread for each in spans}) <= num_threads


def test_stages_of_masks(native):
    masks = dict.fromkeys(IDS, np.tri(*SIZE, dtype=np.uint8))
    plain, profiled = evaluator(masks=masks), evaluator(masks=masks)
    plain.update(cams(), IDS)
    with Profile() as profile:
        profiled.update(cams(), IDS)
    assert profiled == plain
    found = by_name(profile)
    assert list(found) == ["read", "resize", "statistics", "digitize", "gather", "reduce", OTHER]
    assert found["read"].num_bytes == NUM_IMAGES * NUM_PIXELS
    assert {found[name].num_maps for name in ("resize", "statistics", "digitize", "gather")} == {NUM_IMAGES}


def test_other_operations_have_stages_too(native):
    with Profile() as profile:
        normalize(cams(), "max", SIZE)
    assert list(by_name(profile)) == ["resize", "statistics", OTHER]
    assert by_name(profile)["resize"].num_bytes == NUM_IMAGES * (49 + NUM_PIXELS) * 8


def test_a_stage_does_not_have_the_time_of_the_cores_stages(monkeypatch):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "1")
    with Profile(with_spans=True) as profile, stage("mine"):
        evaluator().update(cams(), IDS)
    reducing, mine = (each for each in profile.spans if each.thread > 0)
    core = sum(each.end - each.begin for each in profile.spans if each.thread < 0)
    own = (mine.end - mine.begin) - (reducing.end - reducing.begin) - core
    assert (reducing.name, mine.name) == ("reduce", "mine") and own > 0
    assert nanoseconds(by_name(profile)["mine"].busy_seconds) == own


def test_extraction_reads_and_looks(tmp_path):
    torch = pytest.importorskip("torch")
    for image_id in IDS:
        path = tmp_path / "images" / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (len(image_id), 0, 0)).save(path)
    images = ImageFolder(tmp_path / "images", IDS, Preprocessing(size=(8, 8)))
    with Profile() as profile, CamWriter(tmp_path / "store", Manifest()) as writer:
        assert extract(lambda batch, _: torch.mean(batch, 1), images, writer, batch_size=4) == {}
    found = by_name(profile)
    assert list(found) == ["read", "forward", OTHER]
    assert found["read"].num_maps == found["forward"].num_maps == NUM_IMAGES
    assert found["read"].num_bytes == NUM_IMAGES * 3 * 8 * 8 * 4


def test_importing_the_timers_costs_nothing():
    code = "import sys, wsolkern.profiling; print([name for name in ('torch', 'numpy', 'rich') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def metadata(tmp_path, monkeypatch) -> Path:
    """Images of 200 x 150 pixels with a box each."""
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "2")  # --threads sets it for the whole process
    return write_split(tmp_path / "metadata", IDS, size=(200, 150), box=(20, 10, 160, 120), label=0)


@pytest.fixture
def store(tmp_path) -> Path:
    with CamWriter(tmp_path / "store", Manifest()) as writer:
        writer.add(IDS, cams())
    return tmp_path / "store"


def run(*arguments, code: int = 0):
    result = CliRunner().invoke(app, ["profile", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_the_numbers_add_up(metadata, store):
    found = json.loads(run(store, "--metadata", metadata, "--size", "32", "--json", "-").stdout)
    names = ["read", *NATIVE, OTHER]
    assert [each["name"] for each in found["stages"]] == names
    assert sum(each["share"] for each in found["stages"]) == pytest.approx(1, abs=1e-9)  # shares are rounded
    for each in found["stages"]:
        assert 0 <= each["busy_seconds"] <= each["num_threads"] * found["seconds"]
        assert each["seconds"] == each["busy_seconds"] / each["num_threads"]
        if each["num_maps"]:
            assert each["maps_per_second"] == each["num_maps"] / each["seconds"]
        if each["num_bytes"]:
            assert each["copy_fraction"] == each["num_bytes"] / each["seconds"] / found["copy_bandwidth"][HOST]
    assert {each["num_maps"] for each in found["stages"][:-1]} == {NUM_IMAGES} == {found["num_images"]}
    assert found["overhead"] is None and found["num_missing"] == 0 and found["num_threads"] == 2
    assert found["limit"].split()[0] in names


def test_the_table_and_what_profiling_costs(metadata, store, tmp_path):
    where = store, "--metadata", metadata, "--size", "32", "--limit", 4, "--threads", 1
    printed = run(*where, "--repeat", 3, "--json", tmp_path / "all.json").stdout
    found = json.loads((tmp_path / "all.json").read_text())
    assert len(found["seconds_profiled"]) == len(found["seconds_unprofiled"]) == 3
    pairs = sorted(on / off for on, off in zip(found["seconds_profiled"], found["seconds_unprofiled"], strict=True))
    assert found["overhead"] == pairs[1] - 1
    assert found["seconds"] == sorted(found["seconds_profiled"])[1]
    lines = {line.split()[0]: line for line in printed.splitlines() if f" {HOST} " in line}
    assert all(f"{each['share']:.1%}" in lines[each["name"]] for each in found["stages"])
    assert "4 images" in printed and "copy bandwidth on host by 1 threads" in printed and "profiling off" in printed


def test_score_maps_are_not_normalized(metadata, tmp_path):
    with CamWriter(tmp_path / "scores", Manifest(content="score maps")) as writer:
        writer.add(IDS, np.full((NUM_IMAGES, *SIZE), 0.5))
    np.savez(tmp_path / "scores.npz", **dict.fromkeys(IDS, np.full(SIZE, 0.5)))
    for options in ([tmp_path / "scores"], [tmp_path / "scores.npz", "--score-maps"]):
        how = *options, "--metadata", metadata, "--size", "20x24"
        stages = json.loads(run(*how, "--json", "-").stdout)["stages"]
        assert [each["name"] for each in stages] == ["read", "digitize", "tree", "gather", "reduce", OTHER]
        assert "normalized already" in run(*how, "-n", "max", code=terminal.FAILED).stderr


def test_missing_maps_are_listed(metadata, tmp_path):
    with CamWriter(tmp_path / "store", Manifest()) as writer:
        writer.add(IDS[1:], cams()[1:])
    arguments = tmp_path / "store", "--metadata", metadata, "--size", "32"
    assert f"1 of {NUM_IMAGES} maps were left out" in run(*arguments, code=terminal.PROBLEMS).stderr
    assert f"{NUM_IMAGES - 1} images" in run(*arguments, "--allow-missing").stdout
    assert "has none of the 1 images" in run(*arguments, "--limit", 1, code=terminal.FAILED).stderr


FUNCTIONS = """
from wsolkern.profiling import stage

def work():
    with stage("mine") as timer:
        timer.moved(1000, 5)

def fails():
    raise KeyError("its own")

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    """A module in the current folder."""
    (tmp_path / "functions_to_profile.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "functions_to_profile"
    sys.modules.pop("functions_to_profile", None)


def test_a_function_of_ones_own(module):
    found = json.loads(run("--run", f"{module}:work", "--json", "-").stdout)
    assert [(each["name"], each["num_bytes"], each["num_maps"]) for each in found["stages"]] == [
        ("mine", 1000, 5),
        (OTHER, 0, 0),
    ]
    failed = run("--run", f"{module}:fails", code=terminal.FAILED)
    assert "Traceback" in failed.stderr and "KeyError: 'its own'" in failed.stderr
    assert "mine" in run("--run", f"{module}:work").stdout  # the one that failed left no profile behind


WRONG = {
    "nothing": ([], "expected a store or folder with --metadata, or --run alone"),
    "both": (["STORE", "--metadata", "METADATA", "--run", "a:b"], "or --run alone"),
    "options_for_maps": (["--run", "a:b", "--device", "cuda"], "--run: expected no options about maps with it"),
    "no_metadata": (["STORE"], "expected a store or folder with --metadata"),
    "no_function": (["--run", "functions_to_profile"], "--run: expected package.module:function, found"),
    "no_module": (["--run", "nothing_of_that_name:work"], "No module named 'nothing_of_that_name'"),
    "no_attribute": (["--run", "functions_to_profile:play"], "--run: functions_to_profile has no play"),
    "no_callable": (["--run", "functions_to_profile:number"], "to be a function, found int"),
    "device": (["STORE", "--metadata", "METADATA", "--device", "tpu"], "--device: expected cpu or cuda, found 'tpu'"),
    "normalization": (["STORE", "--metadata", "METADATA", "-n", "maximum"], "normalization 'maximum'"),
    "folder": (["nowhere", "--metadata", "METADATA"], "no such folder of maps"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_one_line(metadata, store, module, options, message):
    places = {"STORE": store, "METADATA": metadata}
    assert message in run(*(places.get(each, each) for each in options), code=terminal.FAILED).stderr


def test_a_trace_has_the_stages(metadata, store, tmp_path):
    pytest.importorskip("torch")
    run(store, "--metadata", metadata, "--size", "32", "--trace", tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    (whole,) = (each for each in events if each["name"] == "wsolkern profile")
    stages = [each for each in events if each.get("cat") == "wsolkern"]
    assert {each["name"] for each in stages} == {"read", *NATIVE}
    assert sum(each["name"] == "tree" for each in stages) == NUM_IMAGES
    for each in stages:  # in microseconds; the two clocks are read one after the other
        assert whole["ts"] <= each["ts"] and each["ts"] + each["dur"] <= whole["ts"] + whole["dur"] + 1000
    (read, *_) = (each for each in stages if each["name"] == "read")
    assert (read["pid"], read["tid"]) == (whole["pid"], whole["tid"])


def findings(copy: float = 1e9, **seconds) -> Findings:
    """Stages that each moved 1e9 bytes of 1000 maps."""
    profile = Profile()
    profile.stages = [StageTime(name, HOST, each, 1, 10**9, 1000) for name, each in seconds.items()]
    profile.seconds = sum(seconds.values())
    return Findings(profile, {HOST: copy}, [profile.seconds], [], 1)


@pytest.mark.parametrize(
    ("found", "parts"),
    [
        (findings(read=3, tree=1), ["read takes 75%", "storage limits it", "4.0 times as fast"]),
        (findings(forward=9, read=1), ["forward takes 90%", "the model limits"]),
        (findings(tree=6, resize=4), ["tree takes 60%", "6,000 us a map and thread", "components"]),
        (findings(digitize=2, tree=1, copy=1e9), ["at 50% of the copy bandwidth", "memory limits it"]),
        (findings(digitize=2, tree=1, copy=2e9), ["at 25% of the copy bandwidth", "not memory, limits it"]),
        (findings(tree=3, digitize=2, read=2, resize=1), ["tree takes 38%", "No stage dominates: digitize takes 25%"]),
        (findings(mine=3, other=1), ["mine takes 75% of the time; it moves", "a look at what it does"]),
        (findings(other=3, mine=1), ["Python between the stages"]),
    ],
)
def test_what_limits_a_run(found, parts):
    assert all(part in found.limit() for part in parts), found.limit()


def test_every_stage_says_what_helps():
    assert all(" What helps: " in findings(**{name: 1, "mine": 0}).limit() for name in (*STAGES, OTHER))


def cuda():
    """torch, where it has a GPU."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch


@pytest.mark.gpu
def test_stages_on_a_device():
    torch = cuda()
    device = torch.device("cuda", torch.cuda.current_device())
    values = torch.ones(1 << 24, device=device)
    with Profile() as profile:
        with stage("resize", device) as timer:
            timer.moved(2 * values.nbytes, 3)
            for _ in range(10):
                values.add_(1)
            with stage("statistics", device):
                values.sum()
        with stage("read"):
            pass
    found = by_name(profile)
    assert {name: each.place for name, each in found.items()} == {
        "read": HOST, "resize": str(device), "statistics": str(device), OTHER: HOST
    }  # fmt: skip
    assert 0 < found["statistics"].seconds < found["resize"].seconds < profile.seconds
    assert (found["resize"].num_bytes, found["resize"].num_maps) == (2 * values.nbytes, 3)


@pytest.mark.gpu
def test_a_captured_stage_has_no_time():
    torch = cuda()
    device = torch.device("cuda", torch.cuda.current_device())
    values, graph = torch.zeros(8, device=device), torch.cuda.CUDAGraph()
    with Profile() as profile:
        with torch.cuda.graph(graph), stage("resize", device):
            values.add_(1)
        graph.replay()
    assert values.tolist() == [1] * 8 and "resize" not in by_name(profile)


@pytest.mark.gpu
def test_an_evaluation_on_a_device(metadata, store, tmp_path):
    torch = cuda()
    how = store, "--metadata", metadata, "--size", "32", "--device", "cuda"
    found = json.loads(run(*how, "--json", "-", "--trace", tmp_path / "trace.json").stdout)
    place = str(torch.device("cuda", torch.cuda.current_device()))
    assert ("read", place) in [(each["name"], each["place"]) for each in found["stages"]]
    assert found["copy_bandwidth"][place] > 0 and found["num_images"] == NUM_IMAGES
    assert sum(each["share"] for each in found["stages"]) == pytest.approx(1, abs=1e-9)  # shares are rounded
