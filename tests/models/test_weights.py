"""Weights in whatever they were wrapped: the one reading that fits is taken and named; all else is an error that helps.

In: state dicts of a small network, in the ways that the ecosystem saves them; files that hold no weights. Out: nothing.
Source: what torch, Lightning, timm, torch.compile, MoCo and DETR write.
"""

import argparse
import io
import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wsolkern.models import load_checkpoint
from wsolkern.models.loading import load_model
from wsolkern.models.weights import find_weights, read_file


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def state(seed: int = 0, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: each for name, each in network(seed).state_dict().items()}


OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(4, 3, 3, 3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
EXTRA = {"criterion.weight": torch.ones(2)}
WRAPPED = {
    "plain": (state(), ""),
    "state_dict": ({"state_dict": state(), "epoch": 3, "optimizer": OPTIMIZER}, "['state_dict']"),
    "model": ({"model": state(), "optimizer": OPTIMIZER}, "['model']"),
    "net": ({"net": state(), "acc": 93.1}, "['net']"),
    "model_state_dict": ({"model_state_dict": state(), "optimizer_state_dict": OPTIMIZER}, "['model_state_dict']"),
    "ema_alone": ({"model_ema": state()}, "['model_ema']"),
    "module": (state(prefix="module."), "the file's own names without 'module.' before names"),
    "state_dict_module": ({"state_dict": state(prefix="module.")}, "['state_dict'] without 'module.' before names"),
    "lightning": (
        {"state_dict": state(prefix="model.") | EXTRA, "hyper_parameters": {"lr": 1}, "callbacks": {}},
        "['state_dict'] without 'model.' before names",
    ),
    "lightning_compiled": (
        {"state_dict": state(prefix="model._orig_mod.") | EXTRA},
        "['state_dict'] without 'model.' before names",
    ),
    "compiled": (state(prefix="_orig_mod."), ""),
    "backbone": ({"model": state(prefix="module.backbone.")}, "['model'] without 'module.backbone.' before names"),
    "nested": ({"checkpoint": {"model": {"state_dict": state()}}}, "['checkpoint']['model']['state_dict']"),
    "list": ([state(), OPTIMIZER], "['0']"),
    "twice_the_same": ({"model": state(), "state_dict": state()}, "['model']"),
    "averaged_model": (
        state(prefix="module.") | {"n_averaged": torch.tensor(3)},
        "the file's own names without 'module.' before names",
    ),
    "other_model_beside": ({"model": state(), "discriminator": {"0.weight": torch.ones(3)}}, "['model']"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_is_wrapped_is_found(tmp_path, name):
    content, where = WRAPPED[name]
    path = tmp_path / "w.pth"
    torch.save(content, path)
    model, sha256, note = load_model("test_weights:network", {"seed": 7}, path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state()[key]), key
    assert note == (f"{path}: weights are {where}" if where else "") and len(sha256) == 64
    other = network(7)
    rest = load_checkpoint(other, path)  # the other place that reads weights
    assert all(torch.equal(value, state()[key]) for key, value in other.state_dict().items())
    assert not any(key in rest for key in ("state_dict", "model", "net")) or name == "twice_the_same"


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)


def test_safetensors_by_name_and_by_content(tmp_path):
    for name in ("w.safetensors", "w.bin"):
        save_file(state(prefix="module."), tmp_path / name)
        found = find_weights(name, read_file(tmp_path / name), network(7).state_dict())
        assert all(torch.equal(each, state()[key]) for key, each in found.state.items())


def test_old_files_lack_counters(tmp_path):
    old = {name: each for name, each in state().items() if "num_batches" not in name}
    torch.save({"model": old}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    model = load_model("test_weights:network", {"seed": 7}, tmp_path / "w.pth").model
    assert torch.equal(model[1].running_var, old["1.running_var"])


def test_an_average_of_weights_is_not_used_where_there_are_plain_ones(tmp_path):
    for key in ("model_ema", "ema_state_dict", "state_dict_ema", "swa_model", "ema"):
        path = tmp_path / "w.pth"
        torch.save({key: state(1), "state_dict": state()}, path)
        model, _, note = load_model("test_weights:network", {}, path)
        assert torch.equal(model[0].weight, state()["0.weight"])
        assert note == (
            f"{path}: weights are ['state_dict']; ['{key}'] would fit, too (averages of weights over training), "
            "and is not used"
        )


@pytest.mark.parametrize(
    ("content", "ways"),
    [
        ({"student": state(), "teacher": state(1)}, "['student'] and ['teacher']"),
        (
            {"state_dict": state(prefix="encoder_q.") | state(1, "encoder_k.")},
            "['state_dict'] without 'encoder_k.' before names and ['state_dict'] without 'encoder_q.' before names",
        ),
    ],
)
def test_two_that_fit_are_refused(tmp_path, content, ways):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(ValueError) as caught:
        load_model("test_weights:network", {}, path)
    message = str(caught.value)
    assert f"w.pth: {ways} all fit the model and differ; save the one that is meant" in message
    follow(message.partition("in Python, ")[2], tmp_path)
    load_model("test_weights:network", {}, tmp_path / "weights.pth")


def follow(advice: str, folder: Path) -> None:
    """Does what a message says, as Python in that folder."""
    code = advice.replace("; if c is a dict, of the model in it", "").partition(" with the key of")[0]
    before = os.getcwd()
    os.chdir(folder)
    try:
        exec(code, {})
    finally:
        os.chdir(before)
        torch.serialization.clear_safe_globals()  # what the advice may have added


def test_what_came_close_is_listed(tmp_path):
    wrong = state() | {"3.weight": torch.zeros(5, 4), "3.bias": torch.zeros(5)}
    torch.save({"state_dict": wrong, "model_ema": {**wrong, "x": torch.ones(1)}}, tmp_path / "w.pth")
    model = network(7)
    before = model[3].weight.clone()
    with pytest.raises(ValueError) as caught:
        load_checkpoint(model, tmp_path / "w.pth")
    assert str(caught.value).endswith(
        "w.pth: 3.weight: expected shape [2, 4], found [5, 4] (and 1 more differences) in ['state_dict']; "
        "further off: ['model_ema'] (3 differences)"
    )
    assert torch.equal(model[3].weight, before)


def lfs(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 102530333\n")


def page(path: Path) -> None:
    path.write_text("\n<!DOCTYPE html>\n<html><body>Sign in</body></html>")


def cut(path: Path) -> None:
    torch.save({"state_dict": state()}, path)
    path.write_bytes(path.read_bytes()[:-300])


def old_cut(path: Path) -> None:
    torch.save({"state_dict": state()}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-30])


def cut_safetensors(path: Path) -> None:
    save_file(state(), path)
    path.write_bytes(path.read_bytes()[:-30])


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("resnet.pth", b"weights")


OTHERS = {
    "empty": (lambda path: path.write_bytes(b""), "expected weights, found an empty file; get it again"),
    "lfs": (lfs, "found a Git-LFS pointer .*; run 'git lfs pull'"),
    "page": (page, "found a web page; download the file itself"),
    "cut": (cut, r"may have been cut off at .* bytes \(get it again\)"),
    "old_cut": (old_cut, "may have been cut off at .* bytes"),
    "cut_safetensors": (cut_safetensors, "no whole file of safetensors, it may have been cut off"),
    "other_zip": (other_zip, r"zip archive of other files \(resnet.pth\); unpack it first"),
    "hdf5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "HDF5"),
    "folder": (
        lambda path: (path.mkdir(), (path / "model.safetensors").touch()),
        "a folder; give a file in it: model.s",
    ),
    "empty_folder": (lambda path: path.mkdir(), "found a folder; and no file of weights in it"),
    "fifo": (os.mkfifo, "expected a regular file, found a FIFO"),
    "none": (lambda path: None, "no such file"),
    "number": (lambda path: torch.save(3, path), "expected a state dict, .* found int"),
    "tensor": (lambda path: torch.save(torch.ones(3), path), "expected a state dict, .* found Tensor"),
    "nothing": (lambda path: torch.save({"epoch": 3}, path), "expected a state dict, .* found a dict of 'epoch'"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_something_else_say_what_they_are(tmp_path, name):
    path = tmp_path / ("w.safetensors" if "safetensors" in name else "w.pth")
    OTHERS[name][0](path)
    for read in (lambda: load_checkpoint(network(), path), lambda: load_model("test_weights:network", {}, path)):
        with pytest.raises((ValueError, OSError), match=f"{path.name}: .*{OTHERS[name][1]}"):
            read()


class Evil:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize("new", [True, False])
def test_what_needs_code_is_not_read_and_the_advice_works(tmp_path, new, capfd):
    contents = {
        "namespace": ({"model": state(), "args": argparse.Namespace(lr=1)}, "holds an argparse.Namespace"),
        "module": (network(), "holds a whole pickled model"),
        "path": ({"model": state(), "folder": tmp_path}, r"holds more than tensors \(pathlib"),
    }
    for name, (content, message) in contents.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=new)
        with pytest.raises(ValueError, match=message) as caught:
            load_model("test_weights:network", {"seed": 7}, path)
        start = str(caught.value).index("import ")
        follow(str(caught.value)[start:].replace("KEY", "model"), tmp_path)
        model = load_model("test_weights:network", {"seed": 7}, tmp_path / "weights.pth").model
        assert torch.equal(model[0].weight, state()["0.weight"])
    torch.save({"model": state(), "x": Evil()}, tmp_path / "evil.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(ValueError, match="holds more than tensors .*Only if you trust who made it"):
        load_model("test_weights:network", {}, tmp_path / "evil.pth")
    assert "must not run" not in capfd.readouterr().out


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive(tmp_path):
    torch.jit.save(torch.jit.script(network()), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="it is a TorchScript archive; take its weights") as caught:
        load_model("test_weights:network", {"seed": 7}, tmp_path / "w.pth")
    follow(str(caught.value)[str(caught.value).index("import ") :], tmp_path)
    model = load_model("test_weights:network", {"seed": 7}, tmp_path / "weights.pth").model
    assert torch.equal(model[0].weight, state()["0.weight"])


def test_an_archive_with_a_name_that_is_no_text_is_refused_by_its_own_name(tmp_path):
    file = io.BytesIO()
    torch.save({"fc.weight": torch.zeros(2, 3)}, file)
    content = file.getvalue()
    place = content.rindex(b"/data.pkl")  # in the archive's table of contents, where names are marked as UTF-8
    (tmp_path / "w.pth").write_bytes(content[:place] + b"/dat\xa2.pkl" + content[place + 9 :])
    with pytest.raises(ValueError, match=r"w\.pth: no checkpoint of tensors and plain containers"):
        read_file(tmp_path / "w.pth")
