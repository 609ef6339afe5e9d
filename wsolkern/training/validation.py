"""The evaluation of a network while it is trained: the CAMs of a split's images against its boxes or masks.

In: what makes CAMs, the images of a split with their classes, an empty evaluator. Out: a Result and an accuracy.
Source: clovaai/wsolevaluation (MIT), main.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from wsolkern.cams import Ranks
from wsolkern.datasets import ImageFolder, Metadata
from wsolkern.metrics import Evaluator, Result
from wsolkern.studies.counting import count_maps

_BATCH = 64  # images; fixed, for the last bits of logits and CAMs depend on it


@dataclass(frozen=True)
class Validation:
    """What a network is worth on a split, the same on all ranks but for the problems, which are the rank's own."""

    result: Result
    accuracy: float
    """Images whose class has the largest logit, in percent."""
    problems: dict[str, str]
    """Image id -> why it was left out."""


def evaluate_on(
    cams: Callable,
    images: ImageFolder,
    split: Metadata,
    evaluator: Evaluator,
    device: torch.device,
    ranks: Ranks,
) -> Validation:
    """Evaluates a network on a split, each process its share of the batches.

    Args:
        cams: What makes CAMs, from :func:`wsolkern.cams.cam_model`.
        images: The split's images.
        split: Their classes.
        evaluator: An empty one, with the split's boxes or masks.
        device: Where the network is.
        ranks: The processes; all of them get here.

    Raises:
        ValueError: No image could be evaluated; the message names the first problem.
    """
    source = _Cams(cams, images, split, device, ranks)
    problems = count_maps(evaluator, source, batch_size=_BATCH)
    parts = ranks.gather((evaluator.to_bytes(), source.num_seen, source.num_correct))
    num_seen, num_correct = (sum(each) for each in list(zip(*parts, strict=True))[1:])
    merged, *others = (Evaluator.from_bytes(content) for content, *_ in parts)
    for each in others:
        merged.merge(each)
    if not merged.num_images:
        raise ValueError(f"{split.folder}: no image could be evaluated; {first_of(problems)}")
    return Validation(merged.compute(), 100 * num_correct / num_seen, problems)


def first_of(problems: dict[str, str]) -> str:
    """The first image that was left out, and why."""
    return next((f"{image_id}: {why}" for image_id, why in problems.items()), "there is none")


class _Cams:
    """This process's share of the images as a source of CAMs; counts on the way whose class is right."""

    def __init__(self, model: Callable, images: ImageFolder, split: Metadata, device: torch.device, ranks: Ranks):
        self.image_ids = images.image_ids
        self.num_seen = self.num_correct = 0
        self._model, self._images, self._split, self._device, self._ranks = model, images, split, device, ranks

    @property
    def problems(self) -> dict[str, str]:
        return self._images.problems

    def batches(self, size: int) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
        windows = [self.image_ids[start : start + size] for start in range(0, len(self.image_ids), size)]
        for batch in self._images.windows(windows[self._ranks.rank :: self._ranks.num_ranks]):
            rows = np.flatnonzero(batch.readable)
            if not len(rows):
                continue
            classes = torch.tensor([self._split.class_labels[each] for each in batch.image_ids], device=self._device)
            names = [each if ok else None for each, ok in zip(batch.image_ids, batch.readable, strict=True)]
            look = self._model(torch.from_numpy(batch.images).to(self._device), classes, names)
            right = (look.logits.argmax(1) == classes).cpu().numpy()
            self.num_seen += len(rows)
            self.num_correct += int(right[rows].sum())
            yield tuple(batch.image_ids[row] for row in rows), look.cams[rows].float()
