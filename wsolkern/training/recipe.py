"""Recipes: every setting that a trained network's weights depend on, as one TOML file.

In: a TOML file, settings that override it. Out: a Recipe, checked; the network it is for; its own TOML.
Source: names and defaults of clovaai/wsolevaluation (MIT), config.py; precision, seed, shards, flip_rate are ours.
"""

import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from inspect import signature
from types import MappingProxyType
from typing import TYPE_CHECKING

from wsolkern import defaults
from wsolkern.cams.extraction import PRECISIONS
from wsolkern.files import read_regular
from wsolkern.functions import call, find_function
from wsolkern.models import BACKBONES, METHODS, build
from wsolkern.normalization import parse_all

if TYPE_CHECKING:
    import torch

NETWORK_ADVICE = "docs/inputs.md, 'A network of your own'"
_PLAIN_METHODS = ("cam", "has", "cutmix")  # any classifier will do
_ACCEPTED = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}  # types that a setting's type takes


@dataclass(frozen=True)
class Recipe:
    """The settings of a run. Defaults are those of the published config.py, except where "ours" is said.

    Raises:
        ValueError: A setting is not as below; the message names it.
    """

    backbone: str
    """A name of wsolkern.models.BACKBONES, or package.module:function. Such a function takes num_classes, if it takes
    anything, and returns a torch.nn.Module that gives logits; that will do for CAM, HaS and CutMix. One with an
    argument ``method`` takes method, num_classes, large_feature_map and the options of the method's network, and
    returns a network as wsolkern.models.build does, which ACoL, SPG and ADL need. Its attributes ``backbone`` and
    ``classifier_layers`` are its name and what its classifier's parameters begin with; without them the classifier is
    the linear layer that makes the logits."""
    method: str
    """A name of wsolkern.models.METHODS."""
    num_classes: int = 0
    """Classes; 0: one more than the largest of train."""
    large_feature_map: bool = False
    """CAMs of 28 x 28 for 224 x 224 pixels instead of 14 x 14."""
    pretrained: str = ""
    """Weights to begin with: "torchvision" (ImageNet, from torch hub's folder), a file of torchvision's, or none."""
    epochs: int = 40
    """How often each image is seen."""
    batch_size: int = 64
    """Images a step, over all processes."""
    shards: int = 1
    """Parts of a batch that go through the network on their own (ours); a multiple of the number of processes. Batch
    normalization, CutMix's partners and ADL's draw are a part's own, as they are a GPU's in the published code."""
    lr: float = 0.01
    """Learning rate."""
    lr_decay_frequency: int = 30
    """The learning rate is multiplied by 0.1 in front of each epoch, counted from 1, that is a multiple of this."""
    lr_classifier_ratio: float = 10.0
    """What the learning rate is multiplied by for the classifier's parameters."""
    momentum: float = 0.9
    """Of SGD, which is Nesterov's unless this is 0."""
    weight_decay: float = 1e-4
    """Of all parameters."""
    resize_size: int = 256
    """Side in pixels that images are resized to, whatever their shape."""
    crop_size: int = 224
    """Side of the part that is trained on; validation images are resized to it."""
    flip_rate: float = 0.5
    """Probability that an image is mirrored; published is 0.5."""
    precision: str = "float32"
    """"float32", or "bfloat16" or "float16" for mixed precision (ours)."""
    seed: int = 0
    """Of all that is random (ours)."""
    normalizations: str = defaults.NORMALIZATIONS
    """What CAMs of val are evaluated with after each epoch; the first decides which checkpoint is best (published:
    minmax alone)."""
    data: str = ""
    """What the data are, 64 hexadecimal digits; "": whatever they are."""
    options: Mapping[str, int | float] = field(default_factory=dict)
    """The method's own settings, those left out at their defaults; see :func:`default_options`."""

    def __post_init__(self):
        for name in ("backbone", "method"):
            _checked(name, getattr(self, name), str)
        if self.backbone not in BACKBONES and ":" not in self.backbone:
            expected = f"one of {', '.join(BACKBONES)}, or package.module:function"
            raise ValueError(f"backbone: expected {expected}, found {self.backbone!r}")
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, found {self.method!r}")
        for each in fields(self)[2:-1]:  # those between backbone, method and options
            kind, value = type(each.default), getattr(self, each.name)
            object.__setattr__(self, each.name, _checked(each.name, value, kind))
        known = default_options(self.method)
        for name in self.options:
            if name not in known:
                raise ValueError(f"{name}: {self.method} has no such option; it has {', '.join(known) or 'none'}")
        given = {name: _checked(name, value, type(known[name])) for name, value in self.options.items()}
        object.__setattr__(self, "options", MappingProxyType(known | given))
        if self.crop_size > self.resize_size:
            raise ValueError(f"crop_size: expected at most resize_size {self.resize_size}, found {self.crop_size}")
        if self.shards > self.batch_size:
            raise ValueError(f"shards: expected at most batch_size {self.batch_size}, found {self.shards}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {self.precision!r}")
        parse_all(self.normalizations)

    @classmethod
    def read(cls, path: str | os.PathLike | None, overrides: Mapping) -> "Recipe":
        """A recipe from a file and what overrides it.

        Args:
            path: TOML with one setting a line, those of the method beside the others; None: no file.
            overrides: Settings by name, of which None leaves the file's or the default.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not TOML, has a setting that there is not, or one with a bad value; the message names the
                file and the setting.
        """
        settings, where = {}, ""
        if path is not None:
            settings, where = _read_toml(path), f"{path}: "
        settings |= {name: value for name, value in overrides.items() if value is not None}
        for name in ("backbone", "method"):
            if not isinstance(settings.get(name), str):
                raise ValueError(f"{where}{name}: expected a name, found {_brief(settings.get(name))}")
        common = {each.name for each in fields(cls)} - {"options"}
        options = {name: value for name, value in settings.items() if name not in common}
        try:
            return cls(**{name: value for name, value in settings.items() if name in common}, options=options)
        except ValueError as error:
            raise ValueError(f"{where}{error}") from error

    def to_dict(self) -> dict:
        """All settings by name, those of the method last."""
        common = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "options"}
        return common | dict(self.options)

    def to_toml(self) -> str:
        """The file that :meth:`read` reads."""
        return "".join(f"{name} = {_toml(value)}\n" for name, value in self.to_dict().items())

    def first_difference(self, other: "Recipe") -> str | None:
        """What another recipe has differently, as a message "name: expected ..., found ..."; None: nothing."""
        mine, theirs = self.to_dict(), other.to_dict()
        for name in mine | theirs:
            if mine.get(name) != theirs.get(name):
                return f"{name}: expected {mine.get(name)!r}, found {theirs.get(name)!r}"
        return None

    def for_data(self, num_classes: int, sha256: str) -> "Recipe":
        """The recipe with what follows from the data in it.

        Raises:
            ValueError: It is for other data, or for fewer classes than there are.
        """
        if self.data not in ("", sha256):
            raise ValueError(
                f"data: the recipe is for other images, classes or boxes; expected {self.data[:12]}..., "
                f"found {sha256[:12]}..."
            )
        if 0 < self.num_classes < num_classes:
            raise ValueError(f"num_classes: expected at least {num_classes}, found {self.num_classes}")
        return replace(self, num_classes=self.num_classes or num_classes, data=sha256)

    def build(self) -> "torch.nn.Module":
        """The network with the weights it begins with, which are the same for the same seed.

        Raises:
            ImportError, ValueError, FileNotFoundError: There is no such function, or no such pretrained weights.
        """
        import torch

        from wsolkern.cams.heads import unwrapped
        from wsolkern.models import load_pretrained

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            made = unwrapped(self._make())
        if self.pretrained:
            load_pretrained(made, None if self.pretrained == "torchvision" else self.pretrained)
        return made

    @property
    def network_options(self) -> dict[str, float]:
        """Those of the method's settings that its network takes, not its loss or its images."""
        found = {name: value for name, value in self.options.items() if name.startswith(("acol_", "adl_"))}
        return found | ({"tap_threshold": self.options["tap_threshold"]} if self.options.get("tap_threshold") else {})

    def maker(self) -> tuple[str, dict]:
        """The function that makes the network, package.module:function, and its arguments, as far as it takes them.

        Raises:
            ImportError, ValueError: There is no such function, or it does not take what the method needs.
        """
        settings = {"method": self.method, "num_classes": self.num_classes, "large_feature_map": self.large_feature_map}
        settings |= self.network_options
        if self.backbone in BACKBONES:
            return "wsolkern.models:build", {"backbone": self.backbone, **settings}
        function = find_function("backbone", self.backbone)
        try:
            parameters = signature(function).parameters
        except ValueError:  # of some that are written in C
            parameters = {}
        if "method" not in parameters:
            if self.method not in _PLAIN_METHODS:
                raise ValueError(
                    f"backbone: {self.method} needs a function with an argument method, which {self.backbone} has not; "
                    f"see {NETWORK_ADVICE}"
                )
            if self.large_feature_map or self.network_options:
                given = next(iter(self.network_options), "large_feature_map")
                raise ValueError(f"{given}: only a function with an argument method takes it, not {self.backbone}")
            takes_any = any(each.kind == each.VAR_KEYWORD for each in parameters.values())
            settings = {"num_classes": self.num_classes} if "num_classes" in parameters or takes_any else {}
        return self.backbone, settings

    def _make(self) -> "torch.nn.Module":
        """The network of the backbone's function."""
        import torch

        from wsolkern.methods.adl import ADL

        _, settings = self.maker()
        if self.backbone in BACKBONES:
            return build(**settings)
        function = find_function("backbone", self.backbone)
        made = call("backbone", self.backbone, function, settings)
        if not isinstance(made, torch.nn.Module):
            raise ValueError(f"backbone: expected {self.backbone} to return a torch.nn.Module, found {made!r}")
        if self.method == "adl" and not any(isinstance(each, ADL) for each in made.modules()):
            raise ValueError(
                f"backbone: adl needs layers wsolkern.methods.adl.ADL, which {type(made).__name__} has not; "
                f"see {NETWORK_ADVICE}"
            )
        return made


def default_options(method: str) -> dict[str, int | float]:
    """A method's own settings at their published defaults (clovaai/wsolevaluation, config.py), by their names there.

    Those without branches of their own also have ``tap_threshold`` (ours): thresholded average pooling where it is more
    than 0.
    """
    from wsolkern.methods import acol, adl, cutmix, has, spg

    own = {
        "has": {"has_grid_size": has.GRID_SIZE, "has_drop_rate": has.DROP_RATE},
        "acol": {"acol_threshold": acol.THRESHOLD},
        "spg": {
            f"spg_threshold_{number}{letter}": value
            for number, pair in enumerate(spg.THRESHOLDS, 1)
            for letter, value in zip("hl", pair, strict=True)
        },
        "adl": {"adl_drop_rate": adl.DROP_RATE, "adl_threshold": adl.THRESHOLD},
        "cutmix": {"cutmix_beta": cutmix.BETA, "cutmix_prob": cutmix.PROBABILITY},
    }.get(method, {})
    return own if method in ("acol", "spg") else own | {"tap_threshold": 0.0}


_LEAST = {"num_classes": 0, "seed": 0, "momentum": 0, "weight_decay": 0, "lr_classifier_ratio": 0}
_FRACTIONS = ("momentum", "flip_rate", "has_drop_rate", "acol_threshold", "spg_", "adl_", "cutmix_prob", "tap_")


def _toml(value: str | int | float) -> str:
    # JSON's strings, numbers and booleans are TOML's too, but for "\\ud83d\\ude00" and a bare DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _checked(name: str, value, kind: type):
    """A setting in its type.

    Raises:
        ValueError: It has another type, or is out of range.
    """
    if type(value) not in _ACCEPTED[kind]:
        raise ValueError(f"{name}: expected {kind.__name__}, found {_brief(value)}")
    if kind is str and re.search("[\ud800-\udfff]", value):
        raise ValueError(f"{name}: expected text that UTF-8 can hold, found {value!r}")
    if type(value) is int and abs(value) >= 1 << 63:
        raise ValueError(f"{name}: expected a number of 64 bits, found {_brief(value)}")
    value = kind(value)
    if kind is int and value < _LEAST.get(name, 1):
        raise ValueError(f"{name}: expected an integer of at least {_LEAST.get(name, 1)}, found {value}")
    if kind is float and name.startswith(_FRACTIONS) and not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a fraction in [0, 1], found {value}")
    if kind is float and not (0 < value < math.inf or value == _LEAST.get(name) or name.startswith(_FRACTIONS)):
        raise ValueError(f"{name}: expected a positive number, found {value}")
    return value


def _read_toml(path: str | os.PathLike) -> dict:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(read_regular(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, numbers of thousands of digits, too deep
        raise ValueError(f"{os.fspath(path)}: expected TOML: {error}") from error


def _brief(value: object) -> str:
    """A value in a message."""
    if isinstance(value, (dict, list)):
        return type(value).__name__  # it may be deep
    return repr(value) if not isinstance(value, int) or abs(value) < 1 << 99 else "a larger one"
