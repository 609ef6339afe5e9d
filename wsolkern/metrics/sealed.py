"""Counts as a file's content: arrays and what they are, with a hash of both.

In: a header that JSON can hold, arrays by name. Out: safetensors bytes; of bytes of any origin these two, or an error.
Source: the safetensors format; SHA-256 as in FIPS 180-4.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import safetensors.numpy

_HEADER = "wsolkern"  # the one key of the format's own metadata


class OtherVersion(ValueError):
    """The content is of the kind that is expected, in another version of its format."""


def seal(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a file.

    Args:
        header: What the arrays are; "content" and "version" tell it from other files.
        arrays: Contiguous arrays of numbers.
    """
    sealed = {**header, "sha256": _sha256(header, arrays)}
    return safetensors.numpy.save(dict(arrays), metadata={_HEADER: json.dumps(sealed)})


def unseal(
    content: bytes, kind: Mapping[str, Any], names: Collection[str], optional: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What :func:`seal` was given, but for the hash; files from before there was one have none.

    Args:
        content: Bytes of any origin.
        kind: The "content" and "version" that are expected.
        names: What the header has beside them.
        optional: What it may have, too.

    Raises:
        OtherVersion: They are of another version.
        ValueError: The bytes are something else; the message says what was found.
    """
    try:
        arrays = safetensors.numpy.load(bytes(content))
        length = int.from_bytes(content[:8], "little")  # of the format's own header
        about = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
        header = json.loads(about.get(_HEADER, "null"))
    except Exception as error:  # whatever bytes of any origin make the decoders raise
        raise ValueError(f"found a damaged one ({_cause(error)})") from error
    if not isinstance(header, dict) or header.get("content") != kind["content"]:
        raise ValueError("found another safetensors file")
    version = header.get("version")
    if type(version) is not int or version != kind["version"]:
        raise OtherVersion(f"expected format version {kind['version']}, found {str(version)[:20]}")
    found = header.pop("sha256", None)
    if found is not None and found != _sha256(header, arrays):
        raise ValueError("found a damaged one (its SHA-256 is another)")
    if set(header) - {*optional} != {*kind, *names}:
        raise ValueError(f"found a damaged one (expected {', '.join(names)})")
    return header, arrays


def _sha256(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def _cause(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
