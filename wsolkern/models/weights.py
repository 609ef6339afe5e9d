"""Weights in files of any kind, and which of the tensors in one are a model's.

In: a file; names and shapes of a model's parameters. Out: the state dict that fits, and in what it was wrapped.
Source: none; the wrappings are those of torch, Lightning, timm, torch.compile and the field's own checkpoints.
"""

import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wsolkern.files import read_regular

if TYPE_CHECKING:
    import torch

_MAX_DEPTH = 5  # of dicts in dicts
_NUM_PICKLES = 4  # one after the other, in a file older than PyTorch 1.6
_NUM_LISTED = 4  # readings that came close
# Parts that wrappers put anywhere into names.
_INSERTED = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_AVERAGES = {"ema", "swa", "averaged", "average", "avg", "shadow"}  # words in the names of averages of weights
_OLD = ".num_batches_tracked"  # files older than PyTorch 0.4.1 lack it

# What files of weights turn out to be: how they begin, what that is, what to do.
_OTHER_FILES = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git-LFS pointer",
        "run 'git lfs pull' in its repository, or download the file itself",
    ),
    (b"\x89HDF", "an HDF5 file (Keras?)", "save a torch state dict"),
    (b"\x1f\x8b", "gzip", "unpack it first"),
    (b"\x93NUMPY", "a numpy array", "save a torch state dict"),
)
_LOADED = re.compile(r"torch\._utils|torch\.\w+Storage|torch\.storage|collections\.OrderedDict|torch\.(Size|\w+\d+)$")
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype\s+html|html|\?xml)", re.IGNORECASE)


class Reading(NamedTuple):
    """One way to see a model's state dict in a file."""

    place: tuple[str, ...]
    """Keys that lead to the dict, such as ("state_dict",)."""
    prefix: str
    """What stands before the names, such as "module."."""
    state: "dict[str, torch.Tensor]"
    """By the model's names; of those that it has not, by the file's."""
    first_wrong: str
    """A parameter that is missing, unexpected or of another shape; "" if it fits."""
    num_wrong: int

    def __str__(self) -> str:
        where = "".join(f"[{each!r}]" for each in self.place) or "the file's own names"
        return where + (f" without {self.prefix!r} before names" if self.prefix else "")

    @property
    def is_average(self) -> bool:
        """Whether it is an average of weights over training, by its name."""
        words = re.split(r"[^a-z]+", " ".join((*self.place, self.prefix)).lower())
        return not _AVERAGES.isdisjoint(words)


class Weights(NamedTuple):
    """A model's tensors in a file."""

    state: "dict[str, torch.Tensor]"
    """By the model's names."""
    note: str
    """What of the file this is, and what else is in it; "" for a state dict as it is."""
    rest: dict
    """What is beside it in the file."""


def read_file(path: str | os.PathLike, content: bytes | None = None) -> object:
    """What is in a file of weights: tensors in plain containers. Nothing in it is executed.

    Args:
        path: torch.save's, or safetensors', by its content.
        content: Of the file, where it is read already.

    Raises:
        OSError: It cannot be read, or is no regular file.
        ValueError: It is something else; the message says what, and what to do.
    """
    import safetensors
    import safetensors.torch
    import torch

    if content is None:
        content = read_bytes(path)
    if problem := _other_kind(content):
        raise ValueError(f"{path}: expected weights, found {problem}")
    try:
        if _is_safetensors(path, content):
            return safetensors.torch.load(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: no whole file of safetensors, {_cut(content)}: {error}") from error
    except Exception as error:  # whatever damage makes the unpickler raise
        advice = _advice(path, content, error)
        raise ValueError(f"{path}: no checkpoint of tensors and plain containers: {advice}") from error


def read_bytes(path: str | os.PathLike) -> bytes:
    """A file's content.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: It is a folder; the message says which files in it may be meant.
        OSError: It is no regular file, or cannot be read.
    """
    try:
        return read_regular(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        endings = (".safetensors", ".bin", ".pt", ".pth", ".tar", ".ckpt")
        inside = sorted(each.name for each in Path(path).iterdir() if each.suffix in endings)[:_NUM_LISTED]
        advice = f"give a file in it: {', '.join(inside)}" if inside else "and no file of weights in it"
        raise IsADirectoryError(f"{path}: expected a file of weights, found a folder; {advice}") from error


def find_weights(
    path: str | os.PathLike,
    content: object,
    expected: "Mapping[str, torch.Tensor]",
    *,
    partly: bool = False,
) -> Weights:
    """The state dict in what a file holds, if there is exactly one way to read it.

    A dict in it at any depth may be the one ("state_dict", "model", ...), and all names may have something before them
    ("module.", "model.", "backbone.", ...). Of a way that an average of weights ("ema", "swa") fits and one that
    something else does, the other is taken, and the note says so.

    Args:
        path: For messages.
        content: What :func:`read_file` gives.
        expected: Name -> tensor of the model's parameters and buffers, of which shapes count.
        partly: Other parameters may stand among those expected.

    Raises:
        ValueError: No way fits, and the message says what came close; or several do.
    """
    import torch

    readings = list(_readings(content, expected, partly))
    if not readings:
        raise ValueError(f"{path}: expected a state dict, or a dict with one as 'state_dict', found {_kind(content)}")
    fitting = [each for each in readings if not each.num_wrong]
    distinct: list[Reading] = []
    for each in fitting:
        if not any(all(torch.equal(each.state[n], other.state[n]) for n in each.state) for other in distinct):
            distinct.append(each)
    plain = [each for each in distinct if not each.is_average] or distinct
    if len(plain) > 1:
        ways = " and ".join(map(str, plain))
        raise ValueError(
            f"{path}: {ways} all fit the model and differ; save the one that is meant as a file of its own: "
            f"in Python, {_code(path, plain[0])}"
        )
    if not plain:
        raise ValueError(f"{path}: {_closest(readings)}")
    (chosen,) = plain
    others = [str(each) for each in distinct if each is not chosen]
    note = f"{path}: weights are {chosen}" if chosen.place or chosen.prefix or others else ""
    if others:
        note += f"; {' and '.join(others)} would fit, too (averages of weights over training), and is not used"
    rest = content if isinstance(content, dict) and chosen.place else {}
    return Weights(chosen.state, note, {name: each for name, each in rest.items() if name != chosen.place[0]})


def put_weights(model: "torch.nn.Module", found: Weights) -> None:
    """Replaces a model's parameters and buffers."""
    # All that find_weights lets be missing are counters, which keep what they have.
    model.load_state_dict(found.state, strict=False)


def _readings(content: object, expected: "Mapping[str, torch.Tensor]", partly: bool) -> Iterator[Reading]:
    """All ways to see a state dict in a file, those that do not fit included."""
    for place, state in _states(content, ()):
        state = {_INSERTED.sub("", name): each for name, each in state.items()}
        for prefix in _prefixes(state, expected):
            yield _reading(place, prefix, state, expected, partly)


def _states(content: object, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Dicts with tensors by name, in a file at any depth."""
    import torch

    if isinstance(content, Mapping):
        named = {name: each for name, each in content.items() if isinstance(name, str)}
        if any(isinstance(each, torch.Tensor) for each in named.values()) or (not place and not content):
            yield place, named
        inner = named
    elif isinstance(content, list | tuple):
        inner = {str(number): each for number, each in enumerate(content[:10])}
    else:
        return
    if len(place) < _MAX_DEPTH:
        for name, each in inner.items():
            if isinstance(each, Mapping | list | tuple):
                yield from _states(each, (*place, name))


def _prefixes(state: dict, expected: "Mapping[str, torch.Tensor]") -> list[str]:
    """What stands before the names, wherever one of the first few of the model's is found; else nothing."""
    for sought in [name for name in expected if not name.endswith(_OLD)][:3]:
        ends = [name.removesuffix(sought) for name in state if name.endswith(sought)]
        found = [each for each in ends if not each or each.endswith(".")]
        if found:
            return sorted(set(found))
    return [""]


def _reading(place, prefix: str, state: dict, expected: "Mapping[str, torch.Tensor]", partly: bool) -> Reading:
    import torch

    found = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
    wrong = []
    for name, tensor in expected.items():
        if name not in found:
            if not name.endswith(_OLD):
                wrong.append(f"expected a parameter {name} {list(tensor.shape)}, found none")
        elif not isinstance(found[name], torch.Tensor):
            wrong.append(f"{name}: expected a tensor, found {type(found[name]).__name__}")
        elif found[name].shape != tensor.shape:
            wrong.append(f"{name}: expected shape {list(tensor.shape)}, found {list(found[name].shape)}")
    for name, each in found.items():
        if name not in expected and not partly and not name.endswith("._extra_state"):
            shape = list(each.shape) if isinstance(each, torch.Tensor) else f"({type(each).__name__})"
            wrong.append(f"unexpected parameter {name} {shape}")
    kept = {name: found[name] for name in expected if name in found}
    return Reading(place, prefix, kept, next(iter(wrong), ""), len(wrong))


def _closest(readings: list[Reading]) -> str:
    """What came close, the closest first."""
    ordered = sorted(readings, key=lambda each: (each.num_wrong, each.is_average))[:_NUM_LISTED]
    first, *others = ordered
    more = f" (and {first.num_wrong - 1:,} more differences)" if first.num_wrong > 1 else ""
    where = f" in {first}" if first.place or first.prefix else ""
    text = f"{first.first_wrong}{more}{where}"
    if others:
        text += "; further off: " + "; ".join(f"{each} ({each.num_wrong:,} differences)" for each in others)
    return text


def _kind(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dict of {', '.join(map(repr, list(content)[:6])) or 'nothing'}"
    return type(content).__name__


def _other_kind(content: bytes) -> str | None:
    """What a file is that holds no weights of torch, and what to do."""
    if not content:
        return "an empty file; get it again"
    if _WEB_PAGE.match(content[:1000]):
        return "a web page; download the file itself (Hugging Face: 'resolve' for 'blob' in the address; GitHub: raw)"
    for begin, kind, advice in _OTHER_FILES:
        if content.startswith(begin):
            return f"{kind} ({len(content):,} bytes); {advice}"
    return None


def _is_safetensors(path: str | os.PathLike, content: bytes) -> bool:
    """By its name, or by how it begins: a header's length, the header in JSON."""
    return Path(path).suffix == ".safetensors" or content[8:10] == b'{"'


def _cut(content: bytes) -> str:
    return f"it may have been cut off at {len(content):,} bytes (get it again)"


def _advice(path: str | os.PathLike, content: bytes, error: Exception) -> str:
    """Why torch did not read a file, and what to do."""
    import zipfile

    reason = next(iter(str(error).splitlines()), type(error).__name__)
    file = os.fspath(path)
    if "TorchScript" in str(error) or _has_member(content, "constants.pkl"):
        return (
            "it is a TorchScript archive; take its weights in Python: import torch; "
            f"torch.save(torch.jit.load({file!r}).state_dict(), 'weights.pth')"
        )
    classes = _classes(content, str(error))
    save = "print(list(c)); torch.save(c['KEY'], 'weights.pth') with the key of the weights for KEY"
    if classes and set(classes) <= {"argparse.Namespace"}:
        return (
            "beside tensors it holds an argparse.Namespace; save the tensors alone, in Python, which runs no code of "
            "the file: import argparse, torch; torch.serialization.add_safe_globals([argparse.Namespace]); "
            f"c = torch.load({file!r}, map_location='cpu', weights_only=True); {save}"
        )
    if classes:
        whole = any(name.startswith("torch.nn.modules.") for name in classes)
        what = "holds a whole pickled model" if whole else "holds more than tensors"
        save = "torch.save(c.state_dict(), 'weights.pth'); if c is a dict, of the model in it" if whole else save
        return (
            f"it {what} ({', '.join(classes[:_NUM_LISTED])}). Only if you trust who made it, for this runs code in "
            "it, in Python with its project installed: import torch; "
            f"c = torch.load({file!r}, map_location='cpu', weights_only=False); {save}"
        )
    if content.startswith(b"PK"):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                names = ", ".join(archive.namelist()[:_NUM_LISTED])
            if not _has_member(content, "data.pkl"):
                return f"it is a zip archive of other files ({names}); unpack it first"
        except Exception:  # whatever damage makes zipfile raise
            return f"{_cut(content)}: {reason}"
    elif isinstance(error, EOFError) or "unexpected EOF" in str(error) or "truncated" in str(error):
        return f"{_cut(content)}: {reason}"
    return reason


def _classes(content: bytes, message: str) -> list[str]:
    """Classes and functions that a file's pickle names and torch does not load from it; nothing is executed."""
    import pickletools
    import zipfile

    found = re.findall(r"(?:GLOBAL|class|function) ([A-Za-z_][\w.]*\.[\w.]+) was not an allowed", message)
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                name = next(each for each in archive.namelist() if each.endswith("data.pkl"))
                content = archive.read(name)
        file, strings = io.BytesIO(content), []
        for _ in range(_NUM_PICKLES):
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    found.append(argument.replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
                    found.append(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    except Exception:  # whatever damage makes zipfile or the pickle's reader raise
        pass
    return list(dict.fromkeys(each for each in found if not _LOADED.match(each)))


def _has_member(content: bytes, name: str) -> bool:
    import zipfile

    if not content.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(each.split("/")[-1] == name for each in archive.namelist())
    except Exception:  # whatever damage makes zipfile raise, names that are no text among it
        return False


def _code(path: str | os.PathLike, reading: Reading) -> str:
    """Python that saves one reading."""
    keys = "".join(f"[{each!r}]" for each in reading.place)
    load = f"import torch; c = torch.load({os.fspath(path)!r}, map_location='cpu', weights_only=True){keys}"
    if not reading.prefix:
        return f"{load}; torch.save(c, 'weights.pth')"
    return f"{load}; torch.save({{n: c[n] for n in c if n.startswith({reading.prefix!r})}}, 'weights.pth')"
