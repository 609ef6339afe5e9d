"""Weights from files: checkpoints of the published library, and torchvision's ImageNet networks.

In: a network and a file, or torch hub's folder. Out: the network's weights replaced; what else the checkpoint holds.
Source: clovaai/wsolevaluation (MIT): main.py (checkpoints), load_pretrained_model (names); torchvision's weight files.
"""

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from wsolkern.models.heads import Network

# The first is the one the published library loads; the second holds the same weights in a newer file.
_TORCHVISION_FILES = {
    "vgg16": ("vgg16-397923af.pth",),
    "inception_v3": ("inception_v3_google-1a9a5a14.pth", "inception_v3_google-0cc3c7bd.pth"),
    "resnet50": ("resnet50-19c8e357.pth", "resnet50-0676ba61.pth"),
}
_TORCHVISION_URL = "https://download.pytorch.org/models"


def load_checkpoint(network: "Network", path: str | os.PathLike) -> dict:
    """Load a checkpoint of the published library (``.pth.tar``), every parameter of it.

    Args:
        network: What :func:`wsolkern.models.build` made, with the checkpoint's backbone, method and classes.
        path: A file with ``state_dict``, ``architecture``, ``epoch`` and ``optimizer``, or with a state dict alone;
            names may begin with "module." (DataParallel). Only tensors and plain containers are unpickled.

    Returns:
        The rest of the checkpoint: architecture, epoch, optimizer; empty for a state dict alone.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Another architecture, a missing or unexpected parameter or another shape; the message names file,
            parameter and both shapes, and the network is as it was.

    Source: clovaai/wsolevaluation, main.py.
    """
    checkpoint = _read(path)
    rest = {}
    if "state_dict" in checkpoint:
        rest = {name: value for name, value in checkpoint.items() if name != "state_dict"}
        checkpoint = checkpoint["state_dict"]
    architecture = rest.get("architecture", network.backbone)
    if architecture != network.backbone:
        raise ValueError(f"{path}: expected a checkpoint of {network.backbone}, found {architecture}")
    if checkpoint and all(name.startswith("module.") for name in checkpoint):
        checkpoint = {name.removeprefix("module."): value for name, value in checkpoint.items()}
    expected = network.state_dict()
    _check(path, expected, checkpoint)
    for name in checkpoint:
        if name not in expected:
            raise ValueError(f"{path}: unexpected parameter {name} {_shape(checkpoint[name])}")
    network.load_state_dict(dict(checkpoint))
    return rest


def load_pretrained(network: "Network", path: str | os.PathLike | None = None) -> None:
    """Load the backbone from torchvision's network trained on ImageNet; the method's own layers stay as they are.

    Args:
        network: What :func:`wsolkern.models.build` made. ResNet50's linear layer is loaded too if it has 1000 classes.
        path: A file with torchvision's state dict; None: torch hub's folder (``$TORCH_HOME/hub/checkpoints``), where
            it is downloaded to unless it is there.

    Raises:
        FileNotFoundError: There is no such file and it cannot be downloaded; the message says which to put where.
        ValueError: A parameter is missing or has another shape; the message names file, parameter and both shapes, and
            the network is as it was.

    Source: clovaai/wsolevaluation, load_pretrained_model of wsol/vgg.py, wsol/inception.py and wsol/resnet.py.
    """
    if path is None:
        path = _torchvision_file(network.backbone)
    state = _read(path)
    names, expected = network.torchvision_names(), network.state_dict()
    _check(path, {theirs: expected[ours] for ours, theirs in names.items()}, state)
    network.load_state_dict({ours: state[theirs] for ours, theirs in names.items() if theirs in state}, strict=False)


def _torchvision_file(backbone: str) -> Path:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in _TORCHVISION_FILES[backbone]:
        if (folder / name).is_file():
            return folder / name
    name = _TORCHVISION_FILES[backbone][0]
    url = f"{_TORCHVISION_URL}/{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest = name.removesuffix(".pth").rsplit("-", 1)[1]
        torch.hub.download_url_to_file(url, str(folder / name), digest, progress=True)
    except OSError as error:
        raise FileNotFoundError(
            f"{folder / name}: not there and not downloaded ({error}); get {url} and put it there, or give its path"
        ) from error
    return folder / name


def _read(path: str | os.PathLike) -> dict:
    import torch

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "it ends too early")
        raise ValueError(f"{path}: no checkpoint of tensors and plain containers: {reason}") from error
    states = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(states, dict) or not all(isinstance(value, torch.Tensor) for value in states.values()):
        raise ValueError(f"{path}: expected a state dict, or a dict with one as 'state_dict'")
    return content


def _check(path, expected: dict[str, "torch.Tensor"], found: dict[str, "torch.Tensor"]) -> None:
    for name, tensor in expected.items():
        if name not in found and not name.endswith(".num_batches_tracked"):  # files older than PyTorch 0.4.1 lack it
            raise ValueError(f"{path}: expected a parameter {name} {_shape(tensor)}, found none")
        if name in found and found[name].shape != tensor.shape:
            raise ValueError(f"{path}: {name}: expected shape {_shape(tensor)}, found {_shape(found[name])}")


def _shape(tensor: "torch.Tensor") -> list[int]:
    return list(tensor.shape)
