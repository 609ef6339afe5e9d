"""Pictures as files: what can be written is known before one is drawn, and it is written whole or not at all.

In: matplotlib figures. Out: files in the format that their names end in.
Source: none.
"""

import io
import os
from typing import TYPE_CHECKING

from wsolkern.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN = {"parse_math": False, "usetex": False}  # for text that is not ours: $ and _ are characters of a name
_NOT_OURS = {"pgf", "raw", "rgba"}  # needs LaTeX; no files of pictures


def check_picture(path: str | os.PathLike) -> str:
    """The format that a picture's name asks for; to be called before long work whose picture goes there.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: The name ends in nothing that matplotlib can write.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ImportError(f"pictures need matplotlib ({error}): pip install 'wsolkern[report]'") from error

    kinds = sorted(FigureCanvasBase.get_supported_filetypes().keys() - _NOT_OURS)
    kind = os.path.splitext(path)[1].lower().removeprefix(".")
    if kind not in kinds:
        raise ValueError(f"{os.fspath(path)}: expected a name that ends in .{', .'.join(kinds)}")
    return kind


def save_picture(path: str | os.PathLike, figure: "Figure", **how) -> None:
    """Writes a figure, as ``figure.savefig`` does; what was there stays until the new one is whole.

    Raises:
        ValueError: The name ends in nothing that matplotlib can write.
        OSError: It cannot be written; the message names the path.
    """
    content = io.BytesIO()
    figure.savefig(content, format=check_picture(path), **how)
    write_whole(path, content.getvalue())
