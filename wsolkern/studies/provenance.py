"""What a study's figures were made of and with, so that two results can be compared and one can be made again.

In: maps, ground truth, protocol and arguments of a study. Out: a Provenance, which the JSON of the study holds.
Source: none; hashes are SHA-256 as in FIPS 180-4.

Hashes cost next to nothing: the ground truth's is of ids, sizes and boxes (or the paths of masks), a store's are those
of its manifest and of its index, which holds the hash of each shard, and shards are compared with it when they are
read. What has none: the pixels of masks, and maps in a folder or in one file, which a store of them would have.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

import numpy as np

import wsolkern
from wsolkern.cams import CamStore
from wsolkern.datasets import Metadata
from wsolkern.datasets.box_formats import check_format
from wsolkern.metrics import Protocol
from wsolkern.ops import backends
from wsolkern.ops.inputs import threshold_grid


@dataclass(frozen=True)
class Data:
    """The maps of one split, and what they are compared with."""

    maps: str
    """Where they are."""
    manifest_sha256: str | None
    """Of their store's manifest; None where they are in no store."""
    index_sha256: str | None
    """Of its index, and so of all shards."""
    nwc: bool
    """Whether the NWC maps of the store were taken."""
    metadata: str
    """Folder of the split."""
    metadata_sha256: str
    """Of the whole split, from :meth:`wsolkern.datasets.Metadata.sha256`."""
    box_format: str
    box_rounding: str
    mask_root: str | None
    """Folder that mask paths start from."""

    def __post_init__(self) -> None:
        check_format(self.box_format, self.box_rounding)  # a file of unknown origin may name others

    @classmethod
    def of(
        cls,
        maps: str | os.PathLike[str],
        store: CamStore | None,
        split: Metadata,
        mask_root: str | os.PathLike[str] | None,
        nwc: bool,
    ) -> "Data":
        """What there is now.

        Args:
            maps: Where the maps are.
            store: Their store, if they are in one.
            split: Their ground truth.
            mask_root: Folder of its masks, or None.
            nwc: Whether the NWC maps are meant.
        """
        return cls(
            maps=os.fspath(maps),
            manifest_sha256=None if store is None else store.manifest_sha256,
            index_sha256=None if store is None else store.index_sha256,
            nwc=nwc,
            metadata=split.folder,
            metadata_sha256=split.sha256(),
            box_format=split.box_format,
            box_rounding=split.box_rounding,
            mask_root=None if mask_root is None else os.fspath(mask_root),
        )


@dataclass(frozen=True)
class Provenance:
    """All that a study's figures depend on, and where they were computed."""

    study: str
    """ "evaluate", "sweep", "select", "table" or "diagnose"."""
    data: tuple[Data, ...]
    """What was read, in the order of the passes."""
    protocol: Mapping[str, Any]
    """As :meth:`Protocol.to_dict` gives it, thresholds as {"interval": 0.001} where they are a grid."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What else the study was called with, as JSON can hold it."""
    backend: str = ""
    """Such as "cpu-avx2" or "cuda"."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Name -> version; torch only where it computed."""

    @classmethod
    def of(
        cls,
        study: str,
        data: tuple[Data, ...],
        protocol: Mapping[str, Any],
        *,
        device: str = "cpu",
        arguments: Mapping[str, Any] | None = None,
    ) -> "Provenance":
        """Of a study that this process does.

        Args:
            study: Its name.
            data: What it reads.
            protocol: From :func:`protocol_dict`.
            device: Where it computes.
            arguments: What else it was called with.
        """
        isa = backends.native().__name__.rpartition("_native_")[2]
        backend = f"cpu-{isa}" if device == "cpu" else "cuda"
        return cls(study, data, protocol, arguments or {}, backend, versions_of(device))

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {
            "data": [asdict(each) for each in self.data]
        }

    @classmethod
    def from_dict(cls, content: Any) -> "Provenance":
        """What :meth:`to_dict` gave, from a file of unknown origin.

        Raises:
            ValueError: It is something else; the message names the first field that is wrong.
        """
        known = _expect(content, dict, "provenance")
        data = []
        for place, each in enumerate(_expect(known.get("data"), list, "provenance: data")):
            name = f"provenance: data[{place}]"
            entry = _expect(each, dict, name)
            for one in fields(Data):
                if one.name not in entry or not isinstance(entry[one.name], cast(type, one.type)):
                    expected = getattr(one.type, "__name__", str(one.type))
                    raise ValueError(f"{name}: {one.name}: expected {expected}, found {entry.get(one.name)!r:.100}")
            try:
                data.append(Data(**{one.name: entry[one.name] for one in fields(Data)}))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        others = {name: _expect(known.get(name), dict, f"provenance: {name}") for name in ("protocol", "arguments")}
        texts = {name: _expect(known.get(name), str, f"provenance: {name}") for name in ("study", "backend")}
        versions = _expect(known.get("versions"), dict, "provenance: versions")
        return cls(data=tuple(data), versions=versions, **others, **texts)


def versions_of(device: str) -> dict[str, str]:
    """Name -> version of what computes on a device."""
    versions = {"wsolkern": wsolkern.__version__, "python": platform.python_version(), "numpy": np.__version__}
    if device != "cpu":
        import torch

        versions["torch"] = str(torch.__version__)
    return versions


def protocol_dict(protocol: Protocol) -> dict[str, Any]:
    """A protocol as JSON can hold it, in short: a grid of thresholds by its interval."""
    content, thresholds = protocol.to_dict(), protocol.thresholds
    interval = float(thresholds[1]) if len(thresholds) > 1 else 1.0
    if 0 < interval <= 1 and abs(1 / interval - len(thresholds)) <= 1:
        if np.array_equal(thresholds, np.arange(0, 1, interval)):
            content["thresholds"] = {"interval": interval}
    return content


def protocol_of(content: Mapping[str, Any]) -> Protocol:
    """What :func:`protocol_dict` was given, from a file of unknown origin.

    Raises:
        ValueError: It is something else.
    """
    known = dict(content)
    grid = known.get("thresholds")
    if isinstance(grid, dict):
        interval = grid.get("interval")
        if grid.keys() != {"interval"} or not isinstance(interval, float | int):
            raise ValueError(f"protocol: thresholds: expected an interval or a list, found {grid!r:.100}")
        known["thresholds"] = threshold_grid(interval, "protocol: thresholds: interval")
    try:
        return Protocol.from_dict(known)
    except (KeyError, TypeError) as error:
        raise ValueError(f"protocol: expected the fields of a protocol, found {error}") from error


def _expect(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        kinds: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}
        raise ValueError(f"{name}: expected {kinds[kind]}, found {value!r:.100}")
    return value
