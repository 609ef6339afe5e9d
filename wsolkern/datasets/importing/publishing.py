"""Files of an import beside their place until all of them are right; then they are renamed into it.

In: metadata and masks. Out: folders and files that are there whole or not at all.
Source: none; the names of mask files are those of OpenImages30k (Choe et al., arXiv 2007.04178).
"""

import io
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from wsolkern.errors import DatasetError
from wsolkern.files import write_whole


class Staging:
    """A place beside the data set's folder, and one beside the masks'; what is left there in the end is removed.

    Args:
        out: The data set's metadata folder.
        mask_root: Where masks go, or None.
        overwrite: What is there is replaced.

    Raises:
        OSError: There is no place for them.
    """

    def __init__(self, out: str | os.PathLike[str], mask_root: str | os.PathLike[str] | None, overwrite: bool):
        self._out, self._overwrite = Path(out), overwrite
        self._mask_root = None if mask_root is None else Path(mask_root)
        self._made: list[Path] = []

    def __enter__(self) -> "Staging":
        self.folder = self._beside(self._out)
        # Where masks are made, and where they go to.
        self._masks = None if self._mask_root is None else (self._beside(self._mask_root), self._mask_root)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._made:
            shutil.rmtree(each, ignore_errors=True)

    def _beside(self, target: Path) -> Path:
        if target.exists() and not target.is_dir():
            raise DatasetError(f"{target}: expected a folder or nothing, found a file")
        parent = Path(os.path.realpath(target)).parent
        parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".unfinished", dir=parent))
        made.chmod(0o777 & ~_umask())
        self._made.append(made)
        return made

    def write(self, name: str, content: bytes) -> None:
        """A file of the data set's folder."""
        write_whole(self.folder / name, content)

    def add_mask(self, image_id: str, name: str, mask: np.ndarray) -> str:
        """Writes a mask, bool [H, W], as 8-bit PNG of 0 and 255; returns its path below the mask root."""
        content = io.BytesIO()
        Image.fromarray(mask.astype(np.uint8) * 255).save(content, "png")
        return self.add_file(f"{os.path.splitext(image_id)[0]}_{name}.png", content.getvalue())

    def add_file(self, path: str, content: bytes) -> str:
        """Writes a file below the mask root; returns its path."""
        if self._masks is None:
            raise ValueError(f"{path}: there is no place for masks")
        target = self._masks[0] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise DatasetError(f"{path}: two objects have this mask file")
        write_whole(target, content, one_of_many=True)
        return path

    def link(self, file: str | None, image_id: str) -> None:
        """Puts an image below the mask root under its id, as a hard link where the disk has them; None is nothing."""
        if file is None or self._masks is None:
            return
        target = self._masks[0] / image_id
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(os.path.realpath(file), target)
        except OSError:
            shutil.copyfile(file, target)

    def publish(self, splits: list[str]) -> None:
        """Renames all files into their places: masks first, so that no metadata names a mask that is not there.

        Raises:
            DatasetError: Something is there and is not to be replaced; nothing was renamed.
        """
        masks: list[tuple[Path, Path]] = []  # each where it is and where it goes
        if self._masks is not None:
            made, root = self._masks
            found = [Path(at, name) for at, _, names in os.walk(made) for name in names]
            masks = sorted((each, root / each.relative_to(made)) for each in found)
        if not self._overwrite:
            there = [self._out / name for name in splits if (self._out / name).exists()]
            there += [target for _, target in masks if target.exists()]
            if there:
                raise DatasetError(f"{there[0]}: is there already: name another folder, or overwrite (--overwrite)")
        for made_there, target in masks:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(made_there, target)
        self._out.mkdir(parents=True, exist_ok=True)
        old = self.folder / ".replaced"
        old.mkdir()
        for name in splits:
            if (self._out / name).exists():
                os.rename(self._out / name, old / name)
            os.rename(self.folder / name, self._out / name)
        for each in self.folder.iterdir():
            if each.is_file():
                os.replace(each, self._out / each.name)


def _umask() -> int:
    mask = os.umask(0)
    with suppress(OSError):
        os.umask(mask)
    return mask
