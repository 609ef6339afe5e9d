"""What CAMs are made from: labels are checked before the first pass, and what has changed since is made again.

In: small images with labels in folders, small networks. Out: stores, exit codes, messages.
Source: a store of a run that was mended must equal, to the bit, one of a run that was right from the beginning.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared import write_split
from test_extraction import NUM_CLASSES, RUN, SIZE, own, pooling_module
from typer.testing import CliRunner

from wsolkern import models
from wsolkern.cams import CamStore, CamWriter, FileStamp, Look, cam_model, extract, outdated, stamp
from wsolkern.cams.looks import num_classes_of
from wsolkern.cli import app
from wsolkern.datasets import ImageFolder, Preprocessing

THIS = Path(__file__).stem
IDS = [f"{number % 3}/{number:02}.png" for number in range(9)]
LABELS = {image_id: number % NUM_CLASSES for number, image_id in enumerate(IDS)}


def write_labels(folder: Path, labels: dict[str, int]) -> None:
    folder.joinpath("class_labels.txt").write_text("".join(f"{each},{label}\n" for each, label in labels.items()))


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path) -> Path:
    """Images in data, their split in split."""
    for number, image_id in enumerate(IDS):
        write_image(tmp_path / "data" / image_id, number)
    labels = [*LABELS.values()].__getitem__
    write_split(tmp_path / "split", IDS, size=(30, 20), box=(1, 2, 20, 15), label=labels)
    return tmp_path / "data"


def by_id(path: Path) -> dict[str, tuple]:
    """Image id -> class and bits of its CAM."""
    return {
        each.image_ids[row]: (int(each.classes[row]), each.cams[row].tobytes())
        for each in CamStore(path).records()
        for row in range(len(each.image_ids))
    }


def folder(data: Path, ids=IDS) -> ImageFolder:
    return ImageFolder(data, ids, Preprocessing(SIZE))


def run(data: Path, store: Path, *arguments, code: int = 0, model: str = f"{THIS}:pooling_module", split="split"):
    """``wsolkern extract`` in this process."""
    where = () if split is None else ("--metadata", data.parent / split)
    command = ["extract", model, "--images", data, "--size", "24x32", "-o", store, *where, *arguments]
    done = CliRunner().invoke(app, [str(each) for each in command])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def told(*arguments, **options) -> str:
    """What it says on standard error, without the bar and the command that comes next."""
    lines = run(*arguments, **options).stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("extracting", "next: ")))


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)  # where models are found


# Models. Each counts its passes.

PASSES = []


def counted(network):
    network.register_forward_hook(lambda *_: PASSES.append(1))
    return network


class WithoutNumber(torch.nn.Module):
    """Makes its CAMs itself, and does not say how many classes it tells apart."""

    def __init__(self):
        super().__init__()
        self.own = own()

    def forward(self, images, labels=None, return_cam=False):
        return self.own(images, labels, return_cam)


def function_with_logits(images, classes):
    PASSES.append(1)
    return Look(images[:, 0], classes, torch.zeros(len(images), NUM_CLASSES))


def function_of_cams(images, classes):
    PASSES.append(1)
    return images[:, 0]


def a_function():
    return function_with_logits


def slow_function():
    def cams(images, classes):
        time.sleep(0.05)
        return images[:, 0]

    return cams


# Labels are checked first.


def built():
    return models.build("vgg16", "cam", num_classes=NUM_CLASSES)


@pytest.mark.parametrize("make", [pooling_module, WithoutNumber, built])
def test_the_number_of_classes_is_known_before_the_first_image(make):
    assert num_classes_of(cam_model(make().eval(), (64, 64)), (64, 64), torch.device("cpu")) == NUM_CLASSES


def test_a_function_may_say_how_many_classes_it_knows():
    def function(images, classes):
        return images[:, 0]

    assert num_classes_of(function, SIZE, torch.device("cpu")) is None
    function.num_classes = 5
    assert num_classes_of(function, SIZE, torch.device("cpu")) == 5


@pytest.mark.parametrize("make", [pooling_module, WithoutNumber])
def test_labels_from_1_stop_a_model_before_the_first_pass(data, tmp_path, make):
    labels = {image_id: number % NUM_CLASSES + 1 for number, image_id in enumerate(IDS)}
    model = cam_model(make(), SIZE)
    counted(model.model)
    num_classes_of(model, SIZE, torch.device("cpu"))
    probes = len(PASSES)
    PASSES.clear()
    with CamWriter(tmp_path / "store", RUN) as writer, pytest.raises(ValueError) as error:
        extract(model, folder(data), writer, labels)
    assert len(PASSES) == probes  # what tells the number of classes, and no image
    assert str(error.value) == (
        "labels: image '0/06.png': expected an integer in [0, 7), as the model tells 7 classes apart, found 7. "
        "The labels seem to start at 1: of 7 classes the first is 0"
    )
    assert CamStore(tmp_path / "store").num_maps == 0


def test_labels_from_1_stop_a_function_after_the_first_batch_and_nothing_is_kept(data, tmp_path):
    labels = {image_id: number % NUM_CLASSES + 1 for number, image_id in enumerate(IDS)}
    with CamWriter(tmp_path / "store", RUN) as writer:
        writer.add(["0/00.png"], np.zeros((1, 3, 3), np.float32), classes=[0])
        PASSES.clear()
        with pytest.raises(ValueError, match="image '0/06.png': expected .* The labels seem to start at 1"):
            extract(function_with_logits, folder(data), writer, labels)
        assert len(PASSES) == 1 and writer.image_ids == {"0/00.png"}
    assert by_id(tmp_path / "store")["0/00.png"] == (0, bytes(36))


@pytest.mark.parametrize("wrong", [-1, 1.0, True, "2", None, np.float32(3)])
@pytest.mark.parametrize("model", [function_with_logits, function_of_cams])
def test_labels_that_are_no_classes_stop_any_model_before_the_first_pass(data, tmp_path, wrong, model):
    PASSES.clear()
    with CamWriter(tmp_path / "store", RUN) as writer, pytest.raises(ValueError, match="labels: image '2/05.png'"):
        extract(model, folder(data), writer, LABELS | {"2/05.png": wrong})
    assert not PASSES and CamStore(tmp_path / "store").num_maps == 0


def test_labels_of_numpy_and_torch_are_classes(data, tmp_path):
    labels = dict(zip(IDS, torch.arange(9) % NUM_CLASSES, strict=True)) | {"0/00.png": np.uint8(3)}
    with CamWriter(tmp_path / "store", RUN) as writer:
        assert extract(cam_model(pooling_module(), SIZE), folder(data), writer, labels) == {}
    assert {each: label for each, (label, _) in by_id(tmp_path / "store").items()} == LABELS | {"0/00.png": 3}


def test_the_command_names_file_line_image_and_guess(data, tmp_path):
    file = tmp_path / "split" / "class_labels.txt"
    write_labels(file.parent, {image_id: number % NUM_CLASSES + 1 for number, image_id in enumerate(IDS)})
    for model in ("pooling_module", "a_function"):
        message = told(data, tmp_path / model, code=2, model=f"{THIS}:{model}")
        assert message == (
            f"error: {file}:7: image '0/06.png': expected an integer in [0, 7), as the model tells 7 classes apart, "
            "found 7. The labels seem to start at 1: of 7 classes the first is 0\n"
        )
    assert not (tmp_path / "pooling_module").exists()
    # Corrected, the same command gives what it gives without the slip.
    write_labels(file.parent, LABELS)
    for name in ("pooling_module", "right"):
        run(data, tmp_path / name)
    assert by_id(tmp_path / "pooling_module") == by_id(tmp_path / "right")


def test_wrong_labels_leave_a_store_as_it_was(data, tmp_path):
    run(data, tmp_path / "store")
    before = by_id(tmp_path / "store")
    write_labels(tmp_path / "split", dict.fromkeys(IDS, NUM_CLASSES))
    run(data, tmp_path / "store", code=2)
    assert by_id(tmp_path / "store") == before


def test_class_folders_are_compared_with_the_model(data, tmp_path):
    done = run(data, tmp_path / "few", split=None)
    assert f"the model tells {NUM_CLASSES} classes apart; the 3 folders are taken for the first" in done.stderr
    for number in range(3, NUM_CLASSES):
        write_image(data / f"{number}/x.png", number)
    assert told(data, tmp_path / "all", split=None) == ""
    write_image(data / "7/x.png", 7)
    message = run(data, tmp_path / "many", split=None, code=2).stderr
    assert (
        f"error: {data}: folder '7' is class 7 by its name: image '7/x.png': expected an integer in [0, 7)" in message
    )
    assert not (tmp_path / "many").exists()


def test_a_model_that_chooses_classes_itself_is_told_from_one_that_takes_labels(data, tmp_path):
    def chooses(images, classes):
        return Look(images[:, 0], torch.full((len(images),), 2))

    with CamWriter(tmp_path / "store", RUN) as writer:
        with pytest.raises(ValueError, match="image '0/00.png': expected the CAM of its label 0, found one of class 2"):
            extract(chooses, folder(data), writer, LABELS)
        assert not writer.image_ids
        extract(chooses, folder(data), writer)
    assert {label for label, _ in by_id(tmp_path / "store").values()} == {2}


@pytest.mark.parametrize("wrong", ["../x.png", "/x.png", "0/../../x.png", "a\nb"])
def test_ids_that_no_store_takes_are_found_before_the_first_pass(data, tmp_path, wrong):
    write_image(data.parent / "x.png", 0)
    PASSES.clear()
    with (
        CamWriter(tmp_path / "store", RUN) as writer,
        pytest.raises(ValueError, match="image_ids: expected .*, found "),
    ):
        extract(function_with_logits, folder(data, [*IDS, wrong]), writer)
    assert not PASSES
    if "\n" not in wrong:
        for name, fields in (
            ("image_ids", ""),
            ("image_sizes", ",30,20"),
            ("localization", ",1,2,20,15"),
            ("class_labels", ",0"),
        ):
            with open(tmp_path / "split" / f"{name}.txt", "a") as file:
                file.write(f"{wrong}{fields}\n")
        message = run(data, tmp_path / "made", code=2).stderr
        assert "image_ids.txt" in message and f"expected relative paths without '..', found '{wrong}'" in message
        assert not (tmp_path / "made").exists()


def test_an_id_that_is_there_twice_is_found_before_the_first_pass(data, tmp_path):
    PASSES.clear()
    with (
        CamWriter(tmp_path / "store", RUN) as writer,
        pytest.raises(ValueError, match="found '0/00.png' more than once"),
    ):
        extract(function_with_logits, folder(data, [*IDS, IDS[0]]), writer)
    assert not PASSES


@pytest.mark.parametrize(
    "wrong",
    [
        lambda images, _: Look(images[:, 0], torch.zeros(9, dtype=int)),
        lambda images, _: Look(images[:, 0], None, torch.zeros(9, 7)),
        lambda images, _: Look(images[:, 0], None, torch.zeros(7)),
        lambda images, _: Look(images[:, 0], None, None, images[:1, 0].repeat(9, 1, 1)),
        lambda images, _: Look(images[:, 0], [0]),
    ],
)
def test_what_a_function_returns_has_a_row_an_image(data, tmp_path, wrong):
    with (
        CamWriter(tmp_path / "store", RUN) as writer,
        pytest.raises(ValueError, match="model: .*expected"),
    ):
        extract(wrong, folder(data), writer)


def test_a_function_may_return_arrays(data, tmp_path):
    def arrays(images, classes):
        return Look(*(each.numpy() for each in (images[:, 0], classes, torch.eye(NUM_CLASSES)[classes])))

    with CamWriter(tmp_path / "store", RUN) as writer:
        extract(arrays, folder(data), writer, LABELS)
    (records,) = CamStore(tmp_path / "store").records()
    assert records.classes.tolist() == records.top5_classes[:, 0].tolist() == list(LABELS.values())


# What has changed is made again.


def test_a_store_keeps_what_maps_were_made_from(data, tmp_path):
    run(data, tmp_path / "plain")
    run(data, tmp_path / "hashed", "--hash")
    for name, hashed in (("plain", False), ("hashed", True)):
        (records,) = CamStore(tmp_path / name).records()
        for row, image_id in enumerate(records.image_ids):
            found = (data / image_id).stat()
            assert (records.file_bytes[row], records.file_mtimes[row]) == (found.st_size, found.st_mtime_ns)
            sha256 = hashlib.sha256((data / image_id).read_bytes()).digest()
            assert records.file_sha256[row].tobytes() == (sha256 if hashed else bytes(32))


def test_corrected_labels_make_their_cams_again(data, tmp_path):
    wrong = LABELS | {"1/01.png": 0, "2/05.png": 6, "2/08.png": 3}
    write_labels(tmp_path / "split", wrong)
    run(data, tmp_path / "store")
    made = by_id(tmp_path / "store")
    write_labels(tmp_path / "split", LABELS)
    run(data, tmp_path / "right")
    done = run(data, tmp_path / "store")
    assert "3 CAMs no longer fit and are made again" in done.stderr
    assert "1/01.png: is of class 0, the label is 1 now" in done.stderr and "store: 9 CAMs" in done.stdout
    assert by_id(tmp_path / "store") == by_id(tmp_path / "right") != made
    assert told(data, tmp_path / "store") == ""
    assert CamStore(tmp_path / "store").verify() == {}


@pytest.mark.parametrize("options", [(), ("--hash",)])
def test_a_replaced_image_is_made_again(data, tmp_path, options):
    run(data, tmp_path / "store", *options)
    made = by_id(tmp_path / "store")
    write_image(data / "1/04.png", 100)
    done = run(data, tmp_path / "store", *options)
    assert (
        "1 CAMs no longer fit" in done.stderr
        and "1/04.png: was made from another file than is there now" in done.stderr
    )
    run(data, tmp_path / "right")
    mended = by_id(tmp_path / "store")
    assert mended == by_id(tmp_path / "right") and [each for each in IDS if mended[each] != made[each]] == ["1/04.png"]
    assert told(data, tmp_path / "store", *options) == ""


def test_a_file_that_was_only_touched_fits_if_its_hash_does(data, tmp_path):
    for name, options in (("plain", ()), ("hashed", ("--hash",))):
        run(data, tmp_path / name, *options)
    os.utime(data / "1/04.png", ns=(1, 1))
    assert "1/04.png: was made from another file" in run(data, tmp_path / "plain").stderr
    for options in ((), ("--hash",)):
        assert told(data, tmp_path / "hashed", *options) == ""


def test_other_content_of_equal_size_and_time_is_found_by_the_hash_only(data, tmp_path):
    for name, options in (("plain", ()), ("hashed", ("--hash",))):
        run(data, tmp_path / name, *options)
    path = data / "2/05.png"
    was, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert told(data, tmp_path / "plain", "--hash") == ""  # its hash was never kept
    assert told(data, tmp_path / "hashed") == ""
    assert "2/05.png: was made from another file" in run(data, tmp_path / "hashed", "--hash").stderr


def test_an_image_that_is_gone_keeps_its_map(data, tmp_path):
    run(data, tmp_path / "store")
    made = by_id(tmp_path / "store")
    (data / "1/04.png").unlink()
    assert told(data, tmp_path / "store") == "" and by_id(tmp_path / "store") == made


def test_an_image_that_was_replaced_by_a_damaged_one_has_no_map(data, tmp_path):
    run(data, tmp_path / "store")
    (data / "1/04.png").write_bytes(b"no image")
    done = run(data, tmp_path / "store", code=1)
    assert "1 of 9 images were left out" in done.stderr and "1/04.png" not in by_id(tmp_path / "store")


def test_all_images_replaced_by_damaged_ones(data, tmp_path):
    run(data, tmp_path / "store", model=f"{THIS}:a_function")
    for image_id in IDS:
        (data / image_id).write_bytes(b"no image")
    run(data, tmp_path / "store", code=2, model=f"{THIS}:a_function")
    assert CamStore(tmp_path / "store").num_maps == 0


def test_stores_without_the_columns_go_on(data, tmp_path):
    """Nothing is made again, but what is of another class now."""
    model = cam_model(pooling_module(), SIZE)
    with CamWriter(tmp_path / "store", RUN, maps_per_shard=2) as writer:
        extract(model, folder(data, IDS[:5]), writer, LABELS)
    for shard in sorted((tmp_path / "store" / "shards").iterdir()):
        without_columns(tmp_path / "store", shard)
    (first, *_) = CamStore(tmp_path / "store").records()
    assert first.file_bytes.tolist() == [-1, -1] and not first.file_sha256.any()
    made, told = by_id(tmp_path / "store"), []
    write_image(data / "0/00.png", 100)
    with CamWriter(tmp_path / "store", RUN) as writer:
        extract(model, folder(data), writer, LABELS | {"0/03.png": 0}, on_outdated=told.append)
    assert told == [{"0/03.png": "is of class 3, the label is 0 now"}]
    found = by_id(tmp_path / "store")
    assert set(found) == set(IDS) and {each: found[each] for each in made if each != "0/03.png"} == {
        each: kept for each, kept in made.items() if each != "0/03.png"
    }


def without_columns(store: Path, shard: Path) -> None:
    """Makes a shard what an earlier version wrote."""
    import safetensors
    import safetensors.numpy

    from wsolkern.cams import layout

    manifest, sha256 = layout.read_manifest(store)
    with safetensors.safe_open(shard, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if not name.startswith("file_")}
        shard.write_bytes(safetensors.numpy.save(tensors, metadata=file.metadata()))
    shards = [
        layout.Shard(each.file, hashlib.sha256(content).hexdigest(), each.num_maps, len(content))
        for each in layout.read_index(store, sha256)
        for content in [(store / each.file).read_bytes()]
    ]
    layout.write_index(store, sha256, shards)


def test_renamed_class_folders(data, tmp_path):
    """0, 1, 2 become 1, 2, a: ids and labels move; what stays in the store is said."""
    run(data, tmp_path / "store", split=None)
    (data / "0").rename(data / "a")
    done = run(data, tmp_path / "store", split=None)
    assert "6 CAMs no longer fit" in done.stderr and "1/01.png: is of class 1, the label is 0 now" in done.stderr
    assert "3 of them are of images that were not asked for now, such as '0/00.png'" in done.stderr
    run(data, tmp_path / "right", split=None)
    found, right = by_id(tmp_path / "store"), by_id(tmp_path / "right")
    assert {each: found[each] for each in right} == right and len(found) == 12


def test_predicted_classes_are_compared_with_no_labels(data, tmp_path):
    run(data, tmp_path / "store", "--classes", "predicted")
    made = by_id(tmp_path / "store")
    write_labels(tmp_path / "split", dict.fromkeys(IDS, 6))
    assert told(data, tmp_path / "store", "--classes", "predicted") == "" and by_id(tmp_path / "store") == made
    write_image(data / "0/00.png", 100)
    assert "0/00.png: was made from another file" in run(data, tmp_path / "store", "--classes", "predicted").stderr


def test_other_settings_are_named_one_by_one(data, tmp_path):
    run(data, tmp_path / "store")
    message = run(
        data, tmp_path / "store", "--interpolation", "bicubic", "--classes", "predicted", "--method", "HaS", code=2
    ).stderr
    assert message == (
        f"error: {tmp_path / 'store'}: holds another run: expected method 'CAM', found 'HaS'; "
        "expected preprocessing.interpolation 'bilinear', found 'bicubic'; "
        "expected preprocessing.classes 'labels', found 'predicted'\n"
    )
    message = run(data, tmp_path / "store", model=f"{THIS}:a_function", code=2).stderr
    assert "expected preprocessing.head '8', found none" in message and "expected backbone 'Sequential'" in message


def test_outdated_without_labels_or_files(data, tmp_path):
    with CamWriter(tmp_path / "store", RUN) as writer:
        writer.add(IDS[:2], np.zeros((2, 3, 3), np.float32), classes=[5, -1])
    store = CamStore(tmp_path / "store")
    assert outdated(store, folder(data)) == {}
    assert outdated(store, folder(data), LABELS) == {"0/00.png": "is of class 5, the label is 0 now"}


def test_stamps(tmp_path):
    path = tmp_path / "a"
    assert stamp(path) is None and stamp(tmp_path) is None and stamp("a\0b") is None
    path.write_bytes(b"abc")
    os.utime(path, ns=(0, 5))
    assert stamp(path) == FileStamp(3, 5, None)
    assert stamp(path, with_hash=True) == FileStamp(3, 5, hashlib.sha256(b"abc").digest())
    os.mkfifo(tmp_path / "fifo")
    assert stamp(tmp_path / "fifo", with_hash=True) is None


# Kills, signals, several processes.


@pytest.mark.slow
def test_a_run_that_is_killed_while_maps_are_made_again_goes_on(data, tmp_path):
    """At whatever moment: the store is whole, and in the end it is what it should be."""
    write_labels(tmp_path / "split", {image_id: (label + 1) % NUM_CLASSES for image_id, label in LABELS.items()})
    run(data, tmp_path / "store", model=f"{THIS}:slow_function")
    write_labels(tmp_path / "split", LABELS)
    command = [
        sys.executable,
        "-m",
        "wsolkern",
        "extract",
        f"{THIS}:slow_function",
        "--images",
        data,
        "--size",
        "24x32",
    ]
    command += ["--metadata", tmp_path / "split", "-o", tmp_path / "store"]
    process = subprocess.Popen([str(each) for each in command], stderr=subprocess.DEVNULL)
    before, deadline = CamStore(tmp_path / "store").shards, time.monotonic() + 60
    while CamStore(tmp_path / "store").shards == before:
        assert time.monotonic() < deadline and process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert CamStore(tmp_path / "store").verify() == {} and CamStore(tmp_path / "store").num_maps < 9
    run(data, tmp_path / "store", model=f"{THIS}:slow_function")
    assert {each: label for each, (label, _) in by_id(tmp_path / "store").items()} == LABELS


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_keep_what_is_made(data, tmp_path, number):
    program = (
        "import sys, time, os, signal, threading, test_made_from as t\n"
        "from pathlib import Path\n"
        "data, store = map(Path, sys.argv[1:])\n"
        "def cams(images, classes):\n"
        "    t.PASSES.append(1)\n"
        "    if len(t.PASSES) == 4: os.kill(os.getpid(), int(os.environ['SIGNAL']))\n"
        "    time.sleep(0.05)\n"
        "    return images[:, 0]\n"
        "t.a_function = lambda: cams\n"
        "sys.modules['test_made_from'] = t\n"
        "from wsolkern.cli import main\n"
        "sys.argv = ['wsolkern', 'extract', 'test_made_from:a_function', '--images', str(data), '--size', '24x32',\n"
        "            '--metadata', str(data.parent / 'split'), '-o', str(store)]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, data, tmp_path / "store"],
        env={**os.environ, "SIGNAL": str(int(number))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    kept = CamStore(tmp_path / "store").num_maps
    assert done.returncode == 130 and 2 <= kept < 9, done
    assert f"interrupted: the CAMs of {kept} images are kept; the same command goes on" in done.stderr
    run(data, tmp_path / "store", model=f"{THIS}:a_function")
    assert set(by_id(tmp_path / "store")) == set(IDS)


@pytest.mark.slow
def test_several_processes_make_again_what_no_longer_fits(data, tmp_path):
    write_labels(tmp_path / "split", LABELS | {"1/01.png": 0, "2/05.png": 6})
    run(data, tmp_path / "store")
    write_labels(tmp_path / "split", LABELS)
    write_image(data / "2/08.png", 100)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "wsolkern"]
    command += [
        "extract",
        f"{THIS}:pooling_module",
        "--images",
        data,
        "--size",
        "24x32",
        "--metadata",
        tmp_path / "split",
    ]
    done = subprocess.run(
        [str(each) for each in [*command, "-o", tmp_path / "store"]],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("3 CAMs no longer fit and are made again") == 1
    run(data, tmp_path / "right")
    assert by_id(tmp_path / "store") == by_id(tmp_path / "right")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "right", "split", "store"]
    shutil.rmtree(tmp_path / "right")


# Photographs, in a store of a run.


def test_the_command_turns_photographs_as_their_listed_sizes_say(data, tmp_path):
    """An orientation tag counts where the listed size is the displayed one; the store's CAMs are of what was meant."""
    pixels = np.random.default_rng(7).integers(0, 256, (20, 30, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # displayed a quarter turned
    Image.fromarray(pixels).save(data / "0/00.png", exif=exif)
    run(data, tmp_path / "stored", model=f"{THIS}:slow_function")
    sizes = tmp_path / "split" / "image_sizes.txt"
    sizes.write_text(sizes.read_text().replace("0/00.png,30,20", "0/00.png,20,30"))
    boxes = tmp_path / "split" / "localization.txt"
    boxes.write_text(boxes.read_text().replace("0/00.png,1,2,20,15", "0/00.png,1,2,15,20"))
    run(data, tmp_path / "displayed", model=f"{THIS}:slow_function")
    for name, shown in (("stored", pixels), ("displayed", np.rot90(pixels, -1))):
        expected = Preprocessing(SIZE)(Image.fromarray(np.ascontiguousarray(shown)))[0]
        np.testing.assert_array_equal(CamStore(tmp_path / name).read("0/00.png"), expected, strict=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_of_a_function_are_numbers(data, tmp_path, value):
    def wrong(images, classes):
        return Look(images[:, 0], None, np.full((len(images), 7), value, np.float32))

    with CamWriter(tmp_path / "store", RUN) as writer, pytest.raises(ValueError, match="0/00.png: its logits are"):
        extract(wrong, folder(data), writer)
