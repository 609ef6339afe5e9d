"""Texts as classes: the prompts of a file, and which models take them.

In: a file, a model such as transformers' CLIPModel. Out: the prompts; the model as a classifier of them.
Source: Radford et al., CLIP, arXiv 2103.00020, section 3.1 (zero-shot classification by cosines of image and text).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wsolkern.errors import ArgumentError, PathError

if TYPE_CHECKING:
    from wsolkern.cams.clip import PromptedClip

PARTS = ("vision_model", "text_model", "visual_projection", "text_projection", "logit_scale")


def is_clip(model: object) -> bool:
    """Whether a model has CLIP's parts, as transformers names them."""
    return all(hasattr(model, each) for each in PARTS) and hasattr(model.vision_model, "post_layernorm")


def read_prompts(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The prompts in a file, one a line, in the order of the classes.

    Raises:
        DatasetError: A line is empty, a prompt is there twice, or the file holds none; the message names the line.
        OSError: It cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise PathError(path, f"expected UTF-8 text, a prompt a line: {error}") from error
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        prompt = line.strip()
        if not prompt:
            raise PathError(path, f"line {number}: expected the prompt of class {number - 1}, found an empty line")
        if prompt in found:
            raise PathError(path, f"line {number}: expected each prompt once, found {prompt!r} of line {found[prompt]}")
        found[prompt] = number
    if not found:
        raise PathError(path, "expected a prompt a line, found an empty file")
    return tuple(found)


def prompted(model: object, prompts: Sequence[str], tokenizer: str | os.PathLike[str] | None = None) -> "PromptedClip":
    """A model as a classifier of texts; see :class:`wsolkern.cams.clip.PromptedClip`.

    Raises:
        ArgumentError: It is no model with texts for classes, or as PromptedClip raises.
    """
    from wsolkern.cams.clip import PromptedClip

    if not is_clip(model):
        raise ArgumentError(
            "prompts", f"expected transformers' CLIPModel, with {', '.join(PARTS)}, found {type(model).__name__}"
        )
    return PromptedClip(model, prompts, tokenizer)
