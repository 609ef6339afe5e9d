"""Verify: a result that a study wrote, made again from the same maps and ground truth, and compared.

In: the JSON of evaluate, sweep, select or table, or a page that holds one; where its data is now. Out: a Verification,
a Check a part.
Source: none.

All of it is made again and compared with ``==``; or a sample is looked at, see :mod:`wsolkern.studies.sampling`.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import wsolkern
from wsolkern.box_rule import CHOE
from wsolkern.cams import CamStore
from wsolkern.datasets import Metadata, load_metadata
from wsolkern.errors import ArgumentError, DatasetError, DeviceUnavailable
from wsolkern.files import read_regular
from wsolkern.metrics import Protocol, Result, SelectedThresholds
from wsolkern.metrics.result import SCORE_MAPS
from wsolkern.studies import paper
from wsolkern.studies.embedded import is_page, results_in
from wsolkern.studies.evaluation import Evaluation, evaluate, sweep
from wsolkern.studies.images import per_image
from wsolkern.studies.passes import Progress
from wsolkern.studies.provenance import Data, Provenance, protocol_of, versions_of
from wsolkern.studies.sampling import AGREES, DIFFERS, NOTED, Check, Sample
from wsolkern.studies.selection import select
from wsolkern.studies.tabulation import table

Place: TypeAlias = "str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None"
"""Where data is now: one folder, or folders by what the result calls them, or the beginnings of that."""
Load: TypeAlias = Callable[[Data], Metadata]

_ARGUMENTS: dict[str, dict[str, type | tuple[type, ...]]] = {  # what each study records, see Provenance.arguments
    "evaluate": {"with_logits": bool, "at": (str, float, int, dict)},
    "sweep": {"with_logits": bool, "at": (str, float, int, dict)},
    "select": {
        "metric": str,
        "select_threshold": bool,
        "localization": bool,
        "num_val_per_class": int,
        "num_resamples": int,
        "seed": int,
        "confidence": (float, int),
    },
    "table": {
        "runs": list,
        "metadata_root": str,
        "mask_roots": dict,
        "layouts": list,
        "at": (str, float, int),
        "ivr": list,
        "published": bool,
        "nwc": bool,
    },
}
_LATER = {"select": {"localization"}, "table": {"at"}}  # what results of before there was such an argument do not have
# What differs from place to place and from time to time; hashes are compared in checks of their own.
_NOT_FIGURES = {"wsolkern", "seconds", "provenance", "maps", "metadata", "store"}
_BY = ("class", "size")
_PLACES = {"maps", "metadata", "mask_root"}  # arguments of verify's own


@dataclass(frozen=True)
class Verification:
    """Whether a result holds."""

    result: str
    """The file."""
    study: str
    """What made it."""
    sample: int | None
    """How many images were looked at; None: all was made again."""
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return all(each.state != DIFFERS for each in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return asdict(self) | {"holds": self.holds, "wsolkern": wsolkern.__version__}


def _load(entry: Data) -> Metadata:
    return load_metadata(entry.metadata, box_format=entry.box_format, box_rounding=entry.box_rounding)


def verify(
    result: str | os.PathLike[str],
    *,
    maps: Place = None,
    metadata: Place = None,
    mask_root: Place = None,
    run: int = 1,
    sample: int | None = None,
    seed: int = 0,
    load: Load = _load,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Verification:
    """Tells whether a result holds: its data is that which it names, and made again its figures are the same.

    Args:
        result: The JSON that evaluate, sweep, select or table wrote, or the page of report or compare, which holds one.
        maps: Where the maps are now, if they moved: a folder, or several by the path that the result has, or by the
            beginning of it: {"runs": "/data/runs"}.
        metadata: The same of the ground truth; of a table it is the folder of DATASET/SPLIT folders.
        mask_root: The same of the masks.
        run: Of a page that compares two runs, which of them is made again, 1 or 2.
        sample: Look at so many images only, of evaluate and sweep; see :mod:`wsolkern.studies.sampling`.
        seed: What they are drawn with.
        load: Reads the ground truth that a result's :class:`wsolkern.studies.provenance.Data` names.
        device: "cpu" or "cuda": where maps are evaluated.
        progress: Called as by the study; for a sample with "sample".

    Raises:
        ArgumentError: An argument is not as above, or the data is not where it was; it carries the argument's name.
        DatasetError: The file is damaged, or is no result that can be made again; or the data is damaged.
        OSError: The file cannot be read.
        DeviceUnavailable, NothingCounted, Interrupted: As from the study.
    """
    content = _read(result, run)
    recorded, is_complete = _provenance_of(content, os.fspath(result))
    if sample is not None and sample < 1:
        raise ArgumentError("sample", f"expected a number of images from 1, found {sample}")
    if sample is not None and recorded.study not in ("evaluate", "sweep"):
        raise ArgumentError("sample", f"a result of {recorded.study} is checked whole; leave it out")
    try:
        made = _Recorded(content, recorded, is_complete, _Moved(recorded, maps, metadata, mask_root))
    except (TypeError, AttributeError) as error:
        raise _damaged(result, error) from error
    try:
        protocol = made.protocol()
    except (TypeError, ValueError) as error:
        raise _damaged(result, error) from error
    if sample is not None and protocol.box_rule != CHOE:
        raise ArgumentError("sample", f"counts are compared under the box rule choe only, found {protocol.box_rule}")
    load = cache(load)
    checks = [*made.data_checks(load), made.version_check(device)]
    if sample is None:
        try:
            found = json.loads(json.dumps(_again(made, protocol, load, device, progress)))
        except ArgumentError as error:
            if isinstance(error, DeviceUnavailable) or not _PLACES.isdisjoint(error.arguments):
                raise
            raise DatasetError(f"{os.fspath(result)}: cannot be made again: {error}") from error
        if isinstance(content.get("per_image"), dict) and "per_image" not in found:
            checks.append(Check("per_image", NOTED, "is not made again: it does not say at which thresholds it was"))
            content = {name: value for name, value in content.items() if name != "per_image"}
        same_version = recorded.versions["wsolkern"] == wsolkern.__version__
        checks += _compare(content, found, strict=is_complete and same_version)
    else:
        missing = content.get("missing")
        left_out = set(missing) if isinstance(missing, dict) else set()
        counted = Sample(made.data[0], protocol, load(made.data[0]), left_out, sample, seed, device, progress)
        try:
            checks += [*counted.checks(), *counted.refute(content)]
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise _damaged(result, error) from error
    return Verification(os.fspath(result), recorded.study, sample, tuple(checks))


def _damaged(path: str | os.PathLike[str], error: Exception) -> DatasetError:
    reason = f"no {error}" if isinstance(error, KeyError) else str(error)
    return DatasetError(f"{os.fspath(path)}: damaged, or no result of a study: {reason}")


def _read(path: str | os.PathLike[str], run: int) -> dict[str, Any]:
    """The content of a file of JSON, or of a run of a page.

    Raises:
        ArgumentError: There is no such run.
        DatasetError: It is none.
    """
    text = read_regular(path)
    try:
        found: Sequence[bytes | str] = results_in(text) if is_page(text) else [text]
    except ValueError as error:
        raise DatasetError(f"{os.fspath(path)}: expected a page of HTML, found a damaged one ({error})") from error
    if not found:
        raise DatasetError(f"{os.fspath(path)}: expected a page of wsolkern report or compare, found another one")
    if not 1 <= run <= len(found):
        raise ArgumentError("run", f"expected 1 to {len(found)}, the runs that {os.fspath(path)} holds, found {run}")
    try:
        content = json.loads(found[run - 1])
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{os.fspath(path)}: expected the JSON of a result, found other content ({error})"
        ) from error
    if not isinstance(content, dict):
        raise DatasetError(f"{os.fspath(path)}: expected the JSON of a result, found a {type(content).__name__}")
    return content


def _provenance_of(content: Mapping[str, Any], path: str) -> tuple[Provenance, bool]:
    """What a result was made of, and whether it says that itself, as all do since hashes are recorded.

    Raises:
        DatasetError: It is no result of a study that can be made again.
    """
    expected = f"{path}: expected the JSON of evaluate, sweep, select or table"
    if "provenance" in content:
        try:
            found = Provenance.from_dict(content["provenance"])
        except ValueError as error:
            raise DatasetError(f"{path}: damaged: {error}") from error
        if found.study not in _ARGUMENTS:
            raise DatasetError(f"{expected}, found that of {found.study!r:.100}")
        kinds = _ARGUMENTS[found.study]
        if not kinds.keys() - _LATER.get(found.study, set()) <= found.arguments.keys() <= kinds.keys():
            names = ", ".join(map(str, found.arguments)) or "none"
            raise DatasetError(f"{path}: provenance: arguments: expected {', '.join(kinds) or 'none'}, found {names}")
        for name, value in found.arguments.items():
            if not isinstance(value, kinds[name]):
                raise DatasetError(f"{path}: damaged: provenance: arguments: {name}: found {value!r:.100}")
        if found.study == "table" and (fault := _fault_of_table(found.arguments)):
            raise DatasetError(f"{path}: damaged: provenance: arguments: {fault}")
        if len(found.data) < 1 or (found.study == "select" and len(found.data) != 2):
            raise DatasetError(f"{path}: damaged: provenance: data: found {len(found.data)} entries")
        if not isinstance(found.versions.get("wsolkern"), str):
            raise DatasetError(f"{path}: damaged: provenance: versions: expected that of wsolkern, found none")
        return found, True
    if "choices" in content or "tables" in content:
        raise DatasetError(
            f"{path}: made by an older version ({content.get('wsolkern')!s:.20}), whose select and table did not "
            "record what they were called with, so that they cannot be made again: run the study anew"
        )
    if not {"maps", "metadata", "size", "iou_thresholds", "normalizations", "num_images"} <= content.keys():
        raise DatasetError(f"{expected}, found other content")
    return _before_hashes(content, path), False


def _fault_of_table(arguments: Mapping[str, Any]) -> str | None:
    """What is wrong within the arguments of a table."""

    def are_texts(values: Any) -> bool:
        return all(isinstance(each, str) for each in values)

    texts = {"runs": arguments["runs"], "layouts": arguments["layouts"], "mask_roots": arguments["mask_roots"].values()}
    for name, values in texts.items():
        if not are_texts(values):
            return f"{name}: expected texts, found {list(values)!r:.100}"
    if not set(arguments["layouts"]) <= set(paper.LAYOUTS):
        return f"layouts: expected some of {', '.join(paper.LAYOUTS)}, found {arguments['layouts']!r:.100}"
    for each in arguments["ivr"]:
        is_row = isinstance(each, list) and len(each) == 3 and isinstance(each[2], float | int)
        if not (is_row and (each[:2] == [None, None] or are_texts(each[:2]))):
            return f"ivr: expected data set, backbone and percentile, found {each!r:.100}"
    return None


def _before_hashes(content: Mapping[str, Any], path: str) -> Provenance:
    """What can be known of an evaluation of a version that recorded neither hashes nor arguments."""
    try:
        names = [each["normalization"] for each in content["normalizations"]]
        data = Data(
            maps=os.fspath(content["maps"]),
            manifest_sha256=None,
            index_sha256=None,
            nwc=False,
            metadata=os.fspath(content["metadata"]),
            metadata_sha256="",
            box_format=str(content.get("box_format", "xyxy")),
            box_rounding=str(content.get("box_rounding", "none")),
            mask_root=None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    protocol = {
        "normalizations": None if names == [SCORE_MAPS] else names,
        "thresholds": content.get("thresholds", {"interval": 0.001}),
        "iou_thresholds": content["iou_thresholds"],
        "size": content["size"],
        "box_rule": CHOE.to_dict(),
    }
    arguments = {"with_logits": False, "at": "best"}
    study = "sweep" if "percentile_curves" in content else "evaluate"
    return Provenance(study, (data,), protocol, arguments, versions={"wsolkern": str(content.get("wsolkern"))})


class _Moved:
    """Where data is now.

    Args:
        recorded: What the result says.
        maps, metadata, mask_root: As of :func:`verify`.

    Raises:
        ArgumentError: A place is ambiguous, or of nothing that the result names.
    """

    def __init__(self, recorded: Provenance, maps: Place, metadata: Place, mask_root: Place):
        of, roots = recorded.arguments, recorded.study == "table"
        self._places = {
            "maps": (maps, list(of["runs"]) if roots else [each.maps for each in recorded.data]),
            "metadata": (metadata, [of["metadata_root"]] if roots else [each.metadata for each in recorded.data]),
            "mask_root": (mask_root, [each.mask_root for each in recorded.data if each.mask_root is not None]),
        }
        self._given = {name: _by_old_path(name, *each) for name, each in self._places.items()}

    def now(self, name: str, old: str) -> str:
        """Where something is that the result calls ``old``.

        Raises:
            ArgumentError: There is nothing.
        """
        given = self._given[name]
        for before in sorted(given, key=len, reverse=True):
            if old == before or old.startswith(before.rstrip("/") + "/"):
                new = given[before] + old[len(before.rstrip("/")) :] if old != before else given[before]
                break
        else:
            new = old
        if not os.path.exists(new):
            several = len(set(self._places[name][1])) > 1
            how = f"{old}=DIR" if several else "DIR"
            raise ArgumentError(name, f"the result was made of {old}, found nothing at {new}: pass where it is, {how}")
        return new

    def entry(self, entry: Data, mask_root: "str | os.PathLike[str] | None" = None) -> Data:
        """An entry with the places of now."""
        root = entry.mask_root
        places = {
            "maps": self.now("maps", entry.maps),
            "metadata": self.now("metadata", entry.metadata),
            "mask_root": mask_root if root is None else self.now("mask_root", root),
        }
        return Data(**{**vars(entry), **places})

    def given(self, name: str) -> Place:
        """What was passed."""
        return self._places[name][0]


def _by_old_path(name: str, given: Place, recorded: list[str]) -> dict[str, str]:
    """What is passed as old path -> new path."""
    if given is None:
        return {}
    there = list(dict.fromkeys(recorded))
    if not isinstance(given, Mapping):
        if len(there) > 1:
            raise ArgumentError(
                name, f"expected OLD=DIR for some of {', '.join(there)}, found {os.fspath(given)} alone"
            )
        return {old: os.fspath(given) for old in there}
    for old in given:
        if not any(each == old or each.startswith(old.rstrip("/") + "/") for each in there):
            raise ArgumentError(
                name, f"expected a path of the result ({', '.join(there) or 'it has none'}), found {old}"
            )
    return {old: os.fspath(new) for old, new in given.items()}


class _Recorded:
    """A result with its data where it is now."""

    def __init__(self, content: Mapping[str, Any], provenance: Provenance, is_complete: bool, moved: _Moved):
        self.content, self.provenance, self.is_complete, self.moved = content, provenance, is_complete, moved
        masks = None if is_complete else moved.given("mask_root")
        if is_complete and moved.given("mask_root") is not None and not any(each.mask_root for each in provenance.data):
            raise ArgumentError("mask_root", "the result was made of boxes, it names no masks")
        if isinstance(masks, Mapping):
            raise ArgumentError("mask_root", "expected one folder: the result names none")
        self.data = [moved.entry(each, masks) for each in provenance.data]

    def protocol(self) -> Protocol:
        """What maps are evaluated by; of a table it has no normalizations of its own."""
        if self.provenance.study == "table":
            return protocol_of({"normalizations": "minmax", **self.provenance.protocol})
        return protocol_of(self.provenance.protocol)

    def data_checks(self, load: Load) -> Iterator[Check]:
        """Whether the data is that which was recorded."""
        for was, entry in zip(self.provenance.data, self.data, strict=True):
            split = load(entry)
            store = CamStore(entry.maps) if CamStore.is_at(entry.maps) else None
            now = Data.of(entry.maps, store, split, entry.mask_root, entry.nwc)
            yield _compare_hash(f"metadata {entry.metadata}", was.metadata_sha256, now.metadata_sha256)
            if not self.is_complete:
                yield Check(f"maps {entry.maps}", NOTED, "no hash was recorded; the figures tell")
            elif was.index_sha256 is None or now.index_sha256 is None:
                yield Check(f"maps {entry.maps}", NOTED, "maps that are in no store have no hash; the figures tell")
            elif was.manifest_sha256 != now.manifest_sha256:
                what = f"the store of another run: manifest {_short(was.manifest_sha256)} was recorded"
                yield Check(f"maps {entry.maps}", DIFFERS, f"{what}, found {_short(now.manifest_sha256)}")
            else:
                yield _compare_hash(f"maps {entry.maps}", was.index_sha256, now.index_sha256)
            if entry.mask_root is not None:
                yield Check(f"masks {entry.mask_root}", NOTED, "pixels of masks have no hash; the figures tell")
        if not self.is_complete:
            grid = "" if "thresholds" in self.content else ", thresholds in steps of 0.001"
            text = f"an older version recorded less; taken for granted: no NWC maps{grid}"
            yield Check("protocol", NOTED, text)

    def version_check(self, device: str) -> Check:
        """What computed then and what computes now, which figures do not depend on."""
        then, now = self.provenance.versions, versions_of(device)
        names = [f"{name} {then.get(name, 'unknown')}" for name in now if then.get(name) != now[name]]
        here = ", ".join(f"{name} {version}" for name, version in now.items())
        return (
            Check("versions", NOTED, f"made with {', '.join(names)}; here {here}")
            if names
            else Check("versions", AGREES, here)
        )


def _compare_hash(what: str, was: str, now: str) -> Check:
    if not was:
        return Check(what, NOTED, "no hash was recorded; the figures tell")
    if was == now:
        return Check(what, AGREES, f"sha256 {_short(now)}")
    return Check(what, DIFFERS, f"changed: sha256 {_short(was)} was recorded, found {_short(now)}")


def _short(sha256: str | None) -> str:
    return f"{sha256}"[:12]


def _again(made: _Recorded, protocol: Protocol, load: Load, device: str, progress: Progress | None) -> dict[str, Any]:
    """The result of the same study on the data of now."""
    study, given = made.provenance.study, dict(made.provenance.arguments)
    how: dict[str, Any] = {"device": device, "progress": progress}
    how |= {each.name: getattr(protocol, each.name) for each in fields(Protocol) if each.name != "normalizations"}
    first = made.data[0]
    if study in ("evaluate", "sweep"):
        do: dict[str, Callable[..., Evaluation]] = {"evaluate": evaluate, "sweep": sweep}
        how |= {"mask_root": first.mask_root, "nwc": first.nwc}
        if isinstance(given.get("at"), dict):
            given["at"] = SelectedThresholds.from_dict(given["at"])
        if study == "evaluate" and made.content.get("by") in _BY:
            given["by"] = made.content["by"]
        found = do[study](first.maps, load(first), protocol.normalizations, **how, **given)
        beside = _beside(made, found.result, load(first), how) if study == "evaluate" else {}
        return found.to_dict(curves="thresholds" in made.content) | beside
    if study == "select":
        val, test = made.data
        how |= {"mask_root": val.mask_root, "nwc": val.nwc}
        pairs: dict[str, Any] = {"val": val.maps, "val_split": load(val), "test": test.maps, "test_split": load(test)}
        return select(**pairs, normalizations=protocol.normalizations or (), **how, **given).to_dict()
    entries = {os.path.normpath(each.metadata): each for each in made.data}

    def load_folder(folder: Path, dataset: str) -> Metadata:
        entry = entries.get(os.path.normpath(folder))
        return load_metadata(folder) if entry is None else load(entry)

    del how["box_rule"]  # of a table it is always the default
    runs = [made.moved.now("maps", each) for each in given.pop("runs")]
    ivr = {None if dataset is None else (dataset, backbone): value for dataset, backbone, value in given.pop("ivr")}
    roots = {dataset: made.moved.now("mask_root", root) for dataset, root in given.pop("mask_roots").items()}
    root = made.moved.now("metadata", given.pop("metadata_root"))
    return table(runs, root, mask_roots=roots, ivr=ivr, load=load_folder, **how, **given).to_dict()


def _beside(made: _Recorded, result: Result, split: Metadata, how: Mapping[str, Any]) -> dict[str, Any]:
    """What --per-image added to an evaluation, made again; rows that do not say where they were taken are not.

    Raises:
        DatasetError: The file is damaged there.
    """
    maps, content = made.data[0].maps, made.content
    names = None if result.rows[0].normalization is None else [str(row.normalization) for row in result]
    rows = content.get("per_image")
    if not isinstance(rows, dict) or "at" not in rows:
        return {}
    try:
        at, tolerance = rows["at"], int(rows["pointing_game"]["tolerance"])
        place = result if isinstance(at, str) else SelectedThresholds.from_dict(at) if isinstance(at, dict) else at
        images = per_image(maps, split, names, at=place, tolerance=tolerance, on_rows=lambda part: None, **how)
    except (AttributeError, KeyError, TypeError) as error:
        raise DatasetError(f"{made.data[0].maps}: damaged: per_image: {error!r:.100}") from error
    return {"per_image": {"at": at, **images.to_dict(curves="thresholds" in content)}}


def _compare(recorded: Mapping[str, Any], found: Mapping[str, Any], *, strict: bool) -> Iterator[Check]:
    """Part by part, every value that the file has; ``strict``: it has all that there are now."""
    theirs, ours = dict(_parts(recorded)), dict(_parts(found))
    for name in dict.fromkeys([*theirs, *ours]):
        then, now = dict(_leaves(theirs.get(name, {}))), dict(_leaves(ours.get(name, {})))
        wrong = [each for each in then if each not in now or then[each] != now[each]]
        absent = [each for each in now if each not in then]
        if wrong:
            first = wrong[0]
            value = f"made again {now[first]!r:.100}" if first in now else "made again there is none"
            more = f", and {len(wrong) - 1:,} more of {len(then):,} values" if len(wrong) > 1 else ""
            yield Check(name, DIFFERS, f"{f'{first}: ' if first else ''}recorded {then[first]!r:.100}, {value}{more}")
        elif absent:
            text = f"{len(absent):,} of {len(now):,} values are not in the file, such as {absent[0] or name}"
            yield Check(name, DIFFERS if strict else NOTED, text)
        else:
            yield Check(name, AGREES, f"{len(then):,} {'value' if len(then) == 1 else 'values'}")


def _parts(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A result in parts with names: each row of normalizations, each key that holds objects, and all else."""
    rest = {}
    for name, value in sorted(content.items()):
        if name in _NOT_FIGURES:
            continue
        if name == "missing" and isinstance(value, dict):
            value = _missing(value)
        if name == "normalizations" and isinstance(value, list) and all(isinstance(each, dict) for each in value):
            names = [str(row.get("normalization")) for row in value]
            for place, row in enumerate(value):
                yield names[place] + (f" ({place + 1})" if names[place] in names[:place] else ""), row
        elif isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value)):
            yield name, value
        else:
            rest[name] = value
    yield "all else", rest


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All single values, by where they are; of images that are missing the ids, whose reasons name files."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "missing" and isinstance(each, dict):
                each = _missing(each)
            if name not in _NOT_FIGURES:
                yield from _leaves(each, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _leaves(each, f"{path}[{place}]")
    else:
        yield path, value


def _missing(value: Mapping[str, Any]) -> list[Any]:
    """The ids of missing images; of several stores, lists of them."""
    if any(isinstance(each, dict) for each in value.values()):
        return sorted(sorted(each) for each in value.values() if isinstance(each, dict))
    return sorted(value)
