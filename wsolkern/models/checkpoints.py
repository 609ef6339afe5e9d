"""Weights from files: checkpoints of the published library, and torchvision's ImageNet networks.

In: a network and a file, or torch hub's folder. Out: the network's weights replaced; what else the checkpoint holds.
Source: clovaai/wsolevaluation (MIT): main.py (checkpoints), load_pretrained_model (names); torchvision's weight files.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wsolkern.models.weights import find_weights, put_weights, read_file

if TYPE_CHECKING:
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
        path: A file with ``state_dict``, ``architecture``, ``epoch`` and ``optimizer``, or with a state dict alone or
            wrapped in another way; see :func:`wsolkern.models.weights.find_weights`. Only tensors and plain containers
            are unpickled.

    Returns:
        The rest of the checkpoint: architecture, epoch, optimizer; empty for a state dict alone.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Another architecture, a missing or unexpected parameter or another shape; the message names file,
            parameter and both shapes, and the network is as it was.

    Source: clovaai/wsolevaluation, main.py.
    """
    content = read_file(path)
    backbone = getattr(network, "backbone", None)
    architecture = content.get("architecture", backbone) if isinstance(content, dict) else backbone
    if isinstance(backbone, str) and isinstance(architecture, str) and architecture != backbone:
        raise ValueError(f"{path}: expected a checkpoint of {backbone}, found {architecture}")
    found = find_weights(path, content, network.state_dict())
    put_weights(network, found)
    return found.rest


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
    if not hasattr(network, "torchvision_names"):
        raise ValueError(
            f"pretrained: {type(network).__name__} has no torchvision_names(), which maps names to torchvision's; "
            "load the weights in the function that makes it"
        )
    if path is None:
        if network.backbone not in _TORCHVISION_FILES:
            raise ValueError(f"pretrained: torchvision has no {network.backbone}")
        path = _torchvision_file(network.backbone)
    names, expected = network.torchvision_names(), network.state_dict()
    theirs = {theirs: expected[ours] for ours, theirs in names.items()}
    state = find_weights(path, read_file(path), theirs, partly=True).state
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
