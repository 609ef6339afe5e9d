"""Which texts are image ids: names of files below a folder, and lines of a file.

In: ids. Out: what is wrong with one; the same rule for metadata, CAM stores and exports.
Source: none.
"""

from collections import Counter
from collections.abc import Sequence


def id_problem(image_id: object) -> str | None:
    """What keeps a value from being an image id, as "expected ..., found ..."; None if nothing does."""
    if not isinstance(image_id, str) or not image_id or "\n" in image_id or "\0" in image_id:
        return f"expected non-empty strings of one line, found {image_id!r}"
    if image_id[0] == "/" or (".." in image_id and ".." in image_id.split("/")):
        return f"expected relative paths without '..', found {image_id!r}"
    return None


def check_image_ids(image_ids: Sequence[str]) -> None:
    """Does nothing if all are image ids.

    Raises:
        ValueError: One is none, or is no text that UTF-8 can hold; it is named.
    """
    for image_id in image_ids:
        if problem := id_problem(image_id):
            raise ValueError(f"image_ids: {problem}")
    try:
        "".join(image_ids).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"image_ids: expected text that UTF-8 can hold, found {error.object[error.start]!r}"
        ) from error


def check_distinct(image_ids: Sequence[str]) -> None:
    """Raises ValueError if an id is there twice; it is named."""
    if len(set(image_ids)) != len(image_ids):
        twice = next(image_id for image_id, count in Counter(image_ids).items() if count > 1)
        raise ValueError(f"image_ids: expected distinct ids, found {twice!r} more than once")
