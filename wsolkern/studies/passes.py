"""One pass over the maps of a split, as every study makes them: resumable, interruptible, with its progress told.

In: what counts, what gives the maps, a state to go on from. Out: counts, image id -> why it was left out, warnings.
Source: none; the counting itself is :mod:`wsolkern.studies.counting`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from wsolkern.cams import CamStore
from wsolkern.datasets import Metadata
from wsolkern.errors import DatasetError
from wsolkern.files import only_one_at, read_regular, write_whole
from wsolkern.interrupts import interrupts_raise
from wsolkern.metrics import sealed
from wsolkern.studies.counting import Source, SplitCount
from wsolkern.targets import check_masks, check_targets

if TYPE_CHECKING:
    import torch

    from wsolkern.datasets.scaling import UnitRange

Progress = Callable[[str, int, int], object]
"""What a study tells while it runs: what is being done, how many images of it are done, and how many there are."""

_PASSES = {"content": "wsolkern passes of a study", "version": 1}


class MapSource(Source, Protocol):
    """A source that also knows whether its maps were scaled one by one."""

    spans: "UnitRange"


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came while a study counted; what was counted until then can be kept."""

    def __init__(self, counting: SplitCount, what: str, kept: Path | None):
        self.in_short = f"{counting.evaluator.num_images:,} of {counting.num_all:,} images are counted"
        """How far it came, in words."""
        super().__init__(f"{what}: {self.in_short}")
        self.counting = counting
        """What has the counts: its ``save`` writes a state that the same study goes on from."""
        self.what = what
        """The pass, as progress names it."""
        self.kept = kept
        """The state that has them already; None if there was none, or it could not be written."""


class NothingCounted(DatasetError):
    """None of the maps of a split could be counted."""

    def __init__(self, root: str | os.PathLike[str], problems: Mapping[str, str], num_all: int):
        super().__init__(f"{os.fspath(root)}: no map could be read")
        self.problems = problems
        """Image id -> why."""
        self.num_all = num_all
        """How many images there are."""


@dataclass(frozen=True, eq=False)
class Counted:
    """One split, counted."""

    root: str
    """Where its maps are."""
    split: Metadata
    """Its ground truth."""
    size: tuple[int, int]
    """Height and width of the evaluation, in pixels."""
    num_images: int
    """Images that were counted."""
    problems: dict[str, str]
    """Image id -> why it was left out."""
    seconds: float
    """What it took, in seconds."""
    warnings: tuple[str, ...] = ()
    """What a reader of the figures should know."""
    save: Callable[[], object] = lambda: None
    """Saves the state of ``resume`` once more where that failed before; raises OSError if it fails again."""

    def to_dict(self) -> dict[str, Any]:
        """What the JSON of a study says about a split, image ids with what is wrong with them included."""
        import wsolkern

        return {
            "wsolkern": wsolkern.__version__,
            "maps": self.root,
            "metadata": self.split.folder,
            "box_format": self.split.box_format,
            "box_rounding": self.split.box_rounding,
            "size": list(self.size),
            "num_missing": len(self.problems),
            "missing": self.problems,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Pass:
    """What came of one pass."""

    problems: dict[str, str]
    """Image id -> why it was left out."""
    warnings: tuple[str, ...]
    save: Callable[[], object]
    """As :attr:`Counted.save`."""


class Passes:
    """The state of a study of several passes: one file with a state for each of them.

    Args:
        path: The file; it need not be there yet. None: nothing is kept.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._states: dict[str, bytes] = {}
        if path is not None and path.exists():
            try:
                header, arrays = sealed.unseal(read_regular(path), _PASSES, ("passes",))
                self._states = {name: arrays[str(place)].tobytes() for place, name in enumerate(header["passes"])}
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}: expected the saved passes of a study, found another file ({error})"
                ) from error

    def count(self, name: str, *about: Any, **how: Any) -> "SplitCount":
        """The counting of a pass, with what its state has; arguments as for :class:`SplitCount`.

        Raises:
            ValueError: Its state is about something else, or is damaged.
        """
        counting = _PassCount(self, name, *about, **how)
        if name in self._states and self.path is not None:
            counting.take_over(self._states[name], self.path)
        return counting

    def keep(self, name: str, state: bytes, path: str | os.PathLike[str]) -> None:
        """Writes all states, with a newer one of a pass."""
        self._states[name] = state
        arrays = {str(place): np.frombuffer(each, np.uint8) for place, each in enumerate(self._states.values())}
        write_whole(path, sealed.seal({**_PASSES, "passes": list(self._states)}, arrays))


class _PassCount(SplitCount):
    """The counting of one pass; it is saved with all the others."""

    def __init__(self, passes: Passes, name: str, *about: Any, **how: Any):
        super().__init__(*about, **how)
        self._passes, self._name = passes, name

    def save(self, path: str | os.PathLike[str]) -> None:
        self._passes.keep(self._name, self.to_bytes(), path)


@contextmanager
def alone(resume: str | os.PathLike[str] | None, inputs: Mapping[str, Metadata | None], masks: Any) -> Iterator[None]:
    """Keeps other processes out of a state, and lets SIGTERM do what Ctrl-C does, while the block counts.

    Args:
        resume: The state, or None.
        inputs: What is read: folders and stores of maps, each with its split.
        masks: Folder of the splits' masks, or a function of the root that gives it; None for none.

    Raises:
        ValueError, OSError: The state cannot be written, or is a file that is read.
        DatasetError: Another process is counting into it.
    """
    if resume is None:
        with interrupts_raise():
            yield
        return
    check_targets({"resume": resume}, [*inputs, *(split.folder for split in inputs.values() if split is not None)])
    for root, split in inputs.items():
        if split is not None:
            check_masks({"resume": resume}, split, masks(root) if callable(masks) else masks)
    busy = f"{os.fspath(resume)}: another process is counting into it"
    with interrupts_raise(), only_one_at(resume, busy):
        yield


def run_pass(
    counting: SplitCount,
    open_source: Callable[[tuple[str, ...]], MapSource],
    what: str,
    *,
    state: Path | None,
    device: "torch.device | None",
    progress: Progress | None,
    scaled: str | None,
) -> Pass:
    """Counts what is not counted yet.

    Args:
        counting: What counts, with the state that it goes on from.
        open_source: Given the images that are not counted yet, what gives their maps.
        what: How progress names the pass.
        state: File to save to, or None.
        device: Where maps are copied to before they are counted; None leaves them on the CPU.
        progress: Told how many images are done, at the start and the end, too.
        scaled: What a warning begins with where maps were scaled one by one before; None for none.

    Raises:
        Interrupted: SIGINT or SIGTERM came; what was counted is in ``state`` if that can be.
        ValueError: Maps or masks that were counted before have changed.
    """

    def tell(done: int) -> None:
        if progress is not None:
            progress(what, done, counting.num_all)

    failed: list[OSError] = []
    source = open_source(counting.remaining)
    tell(counting.evaluator.num_images)
    try:
        problems = counting.run(source, state=state, device=device, progress=tell, on_save_error=failed.append)
    except KeyboardInterrupt:
        raise Interrupted(counting, what, _kept(counting, state)) from None
    tell(counting.num_all)
    warnings = (f"{scaled}: {source.spans.NOTE}",) if scaled is not None and source.spans else ()
    return Pass(problems, warnings, (lambda: counting.save(state)) if failed and state is not None else lambda: None)


def _kept(counting: SplitCount, state: Path | None) -> Path | None:
    """The state, if what was counted can be written there."""
    if state is None:
        return None
    try:
        counting.save(state)
    except OSError:
        return None
    return state


def about_maps(
    root: str | os.PathLike[str] | CamStore, kind: str, nwc: bool
) -> tuple[dict[str, object], CamStore | None]:
    """What tells maps from others, for :func:`fingerprint`, and their store if they are in one.

    Args:
        root: Where they are, or their store if it is opened already.
        kind: "CAMs" or "score maps", what they are counted as.
        nwc: Whether the store's NWC maps are meant.
    """
    path = root.path if isinstance(root, CamStore) else root
    about: dict[str, object] = {"root": str(Path(path).resolve()), "kind": kind}
    if not isinstance(root, CamStore) and not CamStore.is_at(path):
        return about, None
    store = root if isinstance(root, CamStore) else CamStore(path)
    return about | {"nwc": nwc, "manifest": asdict(store.manifest)}, store
