"""Which images were counted: 16 bytes stand for an id, the same in every process, so that none counts twice.

In: image ids. Out: keys, and an immutable record of them that grows by batches.
Source: BLAKE2b as in RFC 7693.
"""

import hashlib
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

KEY_BYTES = 16
INTEGER = int.from_bytes(b"integer\0", "little")  # the second half of the key of an id that fits 64 bits itself


def key_of(image_id: Any) -> bytes:
    """16 bytes for an id: of an integer of 64 bits itself, of text and all else a hash.

    Ids that are equal have one key if they are text, bytes or integers (numpy's too), or tuples of these; others are
    told apart by their ``repr``.
    """
    if isinstance(image_id, str):
        return _hash(b"text", image_id.encode("utf-8", "surrogatepass"))
    if isinstance(image_id, bytes):
        return _hash(b"bytes", image_id)
    if isinstance(image_id, tuple):
        return _hash(b"tuple", b"".join(map(key_of, image_id)))
    try:
        number = operator.index(image_id)
    except TypeError:
        return _hash(type(image_id).__qualname__.encode()[:16], repr(image_id).encode())
    if not -(1 << 63) <= number < 1 << 63:
        return _hash(b"integer", str(number).encode())
    return number.to_bytes(8, "little", signed=True) + INTEGER.to_bytes(8, "little")


def named(key: bytes, *held: Any) -> str:
    """What a message calls the image of a key: its id, if that is an integer or in a mapping; else the key."""
    if key[8:] == INTEGER.to_bytes(8, "little"):
        return str(int.from_bytes(key[:8], "little", signed=True))
    for image_ids in held:
        if isinstance(image_ids, Mapping):
            for each in image_ids:
                if key_of(each) == key:
                    return repr(each)
    return f"the one with key {key.hex()}"


class Images:
    """The keys of some images, each once. It never changes: one with more images is another value.

    Values that follow each other share their memory, about 100 bytes an image.
    """

    def __init__(self, keys: Iterable[bytes] = ()):
        self._places = {key: place for place, key in enumerate(keys)}
        self._number = len(self._places)

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._places)[: self._number])

    def __contains__(self, key: object) -> bool:
        return self._places.get(key, self._number) < self._number  # type: ignore[call-overload, no-any-return]

    def plus(self, keys: Iterable[bytes]) -> "Images":
        """These and others, none of which may be here already; for who holds a lock."""
        # Whoever made the first successor added to the shared keys; a second one gets its own.
        more = self if len(self._places) == self._number else Images(self)
        for key in keys:
            more._places[key] = len(more._places)
        successor = Images.__new__(Images)
        successor._places, successor._number = more._places, len(more._places)
        return successor


def _hash(kind: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES, person=kind).digest()
