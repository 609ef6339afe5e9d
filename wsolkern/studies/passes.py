"""One pass over the maps of a split, as every study makes them: resumable, interruptible, with its progress told.

In: what counts, what gives the maps, a state to go on from. Out: counts, image id -> why it was left out, warnings.
Source: none; the counting itself is :mod:`wsolkern.studies.counting`.

Several processes each count neighbouring images of those that are not counted yet. Counts are sums, so those of all
are the same whoever counted what. Each process but the first keeps what it counted in a file beside the state, and
whoever goes on from the state, be it by one process or by another number of them, begins by adding these files to it.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from wsolkern.cams import ALONE, CamStore, Ranks
from wsolkern.cams.meeting import ProcessStopped
from wsolkern.datasets import Metadata
from wsolkern.errors import DatasetError
from wsolkern.files import only_one_at, read_regular, write_whole
from wsolkern.interrupts import interrupts_raise
from wsolkern.metrics import sealed
from wsolkern.metrics.bootstrap import rows_beside
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

    def __init__(self, counting: SplitCount, what: str, kept: Path | None, num_counted: int | None = None):
        num_counted = counting.num_counted if num_counted is None else num_counted
        self.in_short = f"{num_counted:,} of {counting.num_all:,} images are counted"
        """How far it came, in words; with several processes, how far all of them did, as the first one knows it."""
        super().__init__(f"{what}: {self.in_short}")
        self.counting = counting
        """What has the counts: its ``save`` writes a state that the same study goes on from."""
        self.what = what
        """The pass, as progress names it."""
        self.kept = kept
        """The state that has them already; None if there was none, or it could not be written."""


class ProcessLost(ConnectionError):
    """One of several processes has ended, or gives no sign of life; what the others counted can be kept."""

    def __init__(self, counting: SplitCount, reason: str, kept: Path | None):
        super().__init__(reason)
        self.counting, self.kept = counting, kept
        """As of :class:`Interrupted`, each of this process alone."""


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


class Unsaved:
    """What a counter of one pass has in place of saving and of going on: nobody asks for either without a state."""

    def moment(self) -> None:
        """Nothing: it is not gone on with."""

    def to_bytes(self, moment: Any = None) -> bytes:
        """Not there; see :meth:`moment`."""
        raise ValueError("what was looked at cannot be saved")

    def take_over(self, content: bytes, num_images: int) -> None:
        """Not there; see :meth:`moment`."""
        raise ValueError("what was looked at cannot be gone on with")


class Passes:
    """The state of a study of several passes: one file with a state for each of them.

    Args:
        path: The file; it need not be there yet. None: nothing is kept.
        ranks: The processes that share the study; all of them make this, and the passes in the same order.
    """

    def __init__(self, path: Path | None, ranks: Ranks = ALONE):
        self.path = path if path is None else rank_file(path, ranks.rank)
        """The file of this process."""
        self.ranks = ranks
        self.is_kept = True
        """Whether the last save succeeded."""
        self._states: dict[str, bytes] = {}
        self._others: dict[Path, dict[str, bytes]] = {}  # what other processes kept beside it
        if self.path is not None and self.path.exists():
            self._states = self._read(self.path)
        if path is not None and ranks.rank == 0:
            self._others = {each: self._read(each) for each in _rank_files(path)}

    def _read(self, path: Path) -> dict[str, bytes]:
        """Name of a pass -> its state, in a file."""
        content = read_regular(path)
        try:
            header, arrays = sealed.unseal(content, _PASSES, ("passes",))
            return {name: arrays[str(place)].tobytes() for place, name in enumerate(header["passes"])}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected the saved passes of a study, found another file ({error})") from error

    def _pack(self, states: Mapping[str, bytes]) -> bytes:
        """The content of the file."""
        arrays = {str(place): np.frombuffer(each, np.uint8) for place, each in enumerate(states.values())}
        return sealed.seal({**_PASSES, "passes": list(states)}, arrays)

    def count(self, name: str, *about: Any, **how: Any) -> "SplitCount":
        """The counting of a pass; arguments as for :class:`SplitCount`.

        In the first process, or the only one, it has what its state has, and those that other processes kept beside it.

        Raises:
            ValueError: Its state is about something else, or is damaged; or the processes count different things.
        """
        counting = _PassCount(self, name, *about, **how)
        _expect_agreement(counting, self.ranks)
        if self.ranks.rank or self.path is None:
            return counting
        if name in self._states:
            counting.take_over(self._states[name], self.path)
        added = [
            counting.take_over(states[name], path, is_others=True)
            for path, states in self._others.items()
            if name in states
        ]
        if any(added):  # before anybody writes these files anew
            counting.save(self.path)
        return counting

    def keep(self, name: str, state: bytes, path: str | os.PathLike[str]) -> None:
        """Writes all states, with a newer one of a pass."""
        self._states[name], self.is_kept = state, False
        write_whole(path, self._pack(self._states))
        self.is_kept = True

    def finish(self) -> None:
        """Removes what the processes kept beside the file, if that has all of it now; all of them call this."""
        if self.path is None or not self.ranks.gather(self.is_kept)[0]:
            return
        for path in _rank_files(self.path) if self.ranks.rank == 0 else [self.path]:
            for each in (path, Path(rows_beside(path))):
                each.unlink(missing_ok=True)


class OnePass(Passes):
    """The state of a study of one pass: the file is that of the pass."""

    def _read(self, path: Path) -> dict[str, bytes]:
        return {"": read_regular(path)}

    def _pack(self, states: Mapping[str, bytes]) -> bytes:
        return states[""]


class _PassCount(SplitCount):
    """The counting of one pass; it is saved with all the others."""

    def __init__(self, passes: Passes, name: str, *about: Any, **how: Any):
        super().__init__(*about, **how)
        self._passes, self._name = passes, name

    def _write(self, path: str | os.PathLike[str], state: bytes) -> None:
        self._passes.keep(self._name, state, path)


def rank_file(path: Path, rank: int) -> Path:
    """The file that one of several processes keeps in place of another one; the first has the file itself."""
    target = Path(os.path.realpath(path))  # they are beside that, whatever it is called
    return path if rank == 0 else target.with_name(f"{target.name}.rank{rank}")


def _rank_files(path: Path) -> list[Path]:
    """Those of any number of processes that are there."""
    target = Path(os.path.realpath(path))
    pattern = re.compile(re.escape(target.name) + r"\.rank[1-9][0-9]*")
    there = target.parent.iterdir() if target.parent.is_dir() else ()
    return sorted(each for each in there if pattern.fullmatch(each.name))


def _expect_agreement(counting: SplitCount, ranks: Ranks) -> None:
    """Raises ValueError if the processes are not about to count the same."""
    if ranks.num_ranks == 1:
        return
    first, *others = ranks.gather(hashlib.sha256(counting.to_bytes()).hexdigest())
    for rank, other in enumerate(others, 1):
        if other != first:
            raise ValueError(
                f"process {rank} of {ranks.num_ranks} is about to count other maps or ground truth, or with other "
                "settings, than process 0: expected the same command, and the same files under the same names"
            )


@contextmanager
def alone(
    resume: str | os.PathLike[str] | None,
    inputs: Mapping[str, Metadata | None],
    masks: Any,
    ranks: Ranks = ALONE,
) -> Iterator[None]:
    """Keeps other processes out of a state, and lets SIGTERM do what Ctrl-C does, while the block counts.

    Args:
        resume: The state, or None.
        inputs: What is read: folders and stores of maps, each with its split.
        masks: Folder of the splits' masks, or a function of the root that gives it; None for none.
        ranks: The processes that share the work, of which the first keeps all others out.

    Raises:
        ValueError, OSError: The state cannot be written, or is a file that is read.
        DatasetError: Another process is counting into it.
    """
    if resume is None:
        with interrupts_raise():
            yield
        return
    own = rank_file(Path(resume), ranks.rank)
    check_targets({"resume": own}, [*inputs, *(split.folder for split in inputs.values() if split is not None)])
    for root, split in inputs.items():
        if split is not None:
            check_masks({"resume": own}, split, masks(root) if callable(masks) else masks)
    busy = f"{os.fspath(resume)}: another process is counting into it"
    with interrupts_raise(), nullcontext() if ranks.rank else only_one_at(resume, busy):
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
    ranks: Ranks = ALONE,
) -> Pass:
    """Counts what is not counted yet, alone or as one of several processes that share it.

    Args:
        counting: What counts, with the state that it goes on from.
        open_source: Given the images that are not counted yet, what gives their maps.
        what: How progress names the pass.
        state: File to save to, or None.
        device: Where maps are copied to before they are counted; None leaves them on the CPU.
        progress: Told how many images are done, at the start and the end, too; of several processes by the first.
        scaled: What a warning begins with where maps were scaled one by one before; None for none.
        ranks: The processes; all of them call this. Afterwards the first has the counts of all.

    Raises:
        Interrupted: SIGINT or SIGTERM came, to any of them; what was counted is in ``state`` if that can be.
        ProcessLost: One of the others has ended; in the same way.
        ValueError: Maps or masks that were counted before have changed.
    """
    own = None if state is None else rank_file(state, ranks.rank)
    is_first = ranks.rank == 0

    def tell(done: int) -> None:
        if progress is not None and is_first:
            progress(what, done, counting.num_all)

    failed: list[OSError] = []
    try:
        # The first one's are taken before the others begin: what is wrong with its state costs them no time.
        source = _begun(counting, open_source, counting.remaining, ranks) if is_first else None
        remaining = ranks.gather(counting.remaining if is_first else None)[0]
        if source is None:
            source = _begun(counting, open_source, remaining, ranks)
        tell(counting.num_counted)
        found = counting.run(
            source,
            state=own,
            device=device,
            progress=lambda done: tell(ranks.at_work(done)),
            on_save_error=failed.append,
        )
        counting.merge_over(ranks)
        problems, spans = _together(counting, found, source.spans, ranks)
        if is_first and state is not None and ranks.num_ranks > 1:
            try:
                counting.save(state)
            except OSError as error:
                failed.append(error)
    except (KeyboardInterrupt, ProcessStopped):
        kept = _kept(counting, own)
        num_counted = min(ranks.ends_with(counting.num_counted), counting.num_all)
        raise Interrupted(counting, what, kept, num_counted) from None
    except (ConnectionError, TimeoutError) as error:
        if ranks.num_ranks == 1 or not counting.num_counted:
            raise
        raise ProcessLost(counting, str(error), _kept(counting, own)) from error
    tell(counting.num_all)
    warnings = (f"{scaled}: {spans.NOTE}",) if scaled is not None and spans else ()
    save = (lambda: counting.save(state)) if failed and state is not None and is_first else lambda: None
    return Pass(problems, warnings, save)


def _begun(
    counting: SplitCount, open_source: Callable[[tuple[str, ...]], MapSource], remaining: tuple[str, ...], ranks: Ranks
) -> MapSource:
    """What gives this process its share of the images."""
    source = open_source(remaining[ranks.share(len(remaining))])
    counting.begin(source)
    return source


def _together(
    counting: SplitCount, problems: dict[str, str], spans: "UnitRange", ranks: Ranks
) -> tuple[dict[str, str], "UnitRange"]:
    """What all processes had to leave out, in the order of the split, and whether all maps they saw were scaled."""
    for rank, (theirs, seen) in enumerate(ranks.gather((problems, spans))):
        if rank != ranks.rank:
            problems |= theirs
            spans.merge(seen)
    return {each: problems[each] for each in counting.image_ids if each in problems} | problems, spans


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
