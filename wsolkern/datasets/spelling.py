"""Ids that are there under another spelling, for messages: who looks for a file or a map sees which one is meant.

In: ids that are wanted and ids that are there. Out: wanted id -> the one that is there.
Source: Unicode normalization forms and case folding, Unicode Standard Annex 15 and chapter 3.13.
"""

import os
import unicodedata
from collections.abc import Iterable

_IMAGES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp"))


def nearest_spellings(wanted: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    """Which ids are there, but written otherwise.

    Two ids are spellings of one if they differ in Unicode form (NFC, NFD), case, ``\\`` for ``/``, ``./`` or ``//``,
    surrounding space, an extension that one of them lacks, or which extension of an image they have. Time is linear in
    the number of ids; memory holds those that are wanted.

    Args:
        wanted: Ids that are looked for.
        present: Ids that are there; gone through once.

    Returns:
        Wanted id -> the id present that comes nearest: with the same extension, without one of the two, with another
        one, and the first of several; without ids that are there as they are, or not at all.
    """
    forms = {image_id: _plain(image_id) for image_id in wanted}
    whole, stems = set(forms.values()), {os.path.splitext(form)[0] for form in forms.values()}
    exact: set[str] = set()
    same: dict[str, str] = {}
    longer: dict[str, str] = {}
    images: dict[str, str] = {}
    for image_id in present if forms else ():
        if image_id in forms:
            exact.add(image_id)
        form = _plain(image_id)
        if form in whole or form in stems:
            same.setdefault(form, image_id)
        stem, extension = os.path.splitext(form)
        if extension and stem in whole:
            longer.setdefault(stem, image_id)
        if extension in _IMAGES and stem in stems:
            images.setdefault(stem, image_id)
    found = {}
    for image_id, form in forms.items():
        stem, extension = os.path.splitext(form)
        nearest = same.get(form) or same.get(stem) or longer.get(form) or (extension in _IMAGES and images.get(stem))
        if nearest and image_id not in exact:
            found[image_id] = nearest
    return found


def _plain(image_id: str) -> str:
    """The same for all spellings but for extensions."""
    if image_id.isascii():
        text = image_id.lower()
    else:
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", image_id).casefold())
    text = text.strip().replace("\\", "/")
    if "//" in text or "./" in text or text.startswith("/"):
        text = "/".join(part for part in text.split("/") if part not in ("", "."))
    return text
