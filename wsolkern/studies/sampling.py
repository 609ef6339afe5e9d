"""What a sample of the images can tell of a result: whether engine and reference agree on it, and what it refutes.

In: the images that were counted, their maps and ground truth, recorded figures. Out: checks.
Source: the tails of the hypergeometric distribution, as in Johnson, Kemp & Kotz, 2005, chapter 6.

At a recorded threshold the hits among n images that are drawn from N, K of which hit, are hypergeometric: a tail below
1e-9 refutes the K that an accuracy stands for. The threshold was chosen on all images, not on the sample, so that this
holds for each figure whatever it was chosen for. What is not refuted may be wrong by the points that the check names.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsolkern.cams import open_maps
from wsolkern.datasets import Metadata
from wsolkern.machine import gpu_of
from wsolkern.metrics import Evaluator, Protocol, formulas
from wsolkern.studies.counting import evaluator_for, moved
from wsolkern.studies.passes import NothingCounted, Progress
from wsolkern.studies.provenance import Data

AGREES, DIFFERS, NOTED = "agrees", "differs", "noted"
_REFUTED = 1e-9  # of a tail; a result of 100 figures is refuted by mistake in one of five million samples
_BATCH = 16  # maps that are in memory


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    state: str
    """"agrees", "differs", or "noted" for what decides nothing, such as what cannot be checked."""
    detail: str


class Sample:
    """Some of the images that were counted, counted by the engine and by the reference.

    Args:
        entry: Where their maps and masks are.
        protocol: How maps are evaluated.
        split: All images.
        missing: The ids of images that were left out.
        num: How many of those that were counted to take.
        seed: What they are drawn with.
        device: Where the engine computes.
        progress: Called with "sample".

    Raises:
        NothingCounted: None of their maps can be read.
    """

    def __init__(
        self,
        entry: Data,
        protocol: Protocol,
        split: Metadata,
        missing: Collection[str],
        num: int,
        seed: int,
        device: str,
        progress: Progress | None,
    ):
        there = [each for each in split.image_ids if each not in missing]
        self.num_all, self.protocol = len(there), protocol
        drawn = np.random.default_rng(seed).choice(self.num_all, min(num, self.num_all), replace=False)
        self.image_ids = [there[place] for place in sorted(drawn)]
        how: dict[str, Any] = {"size": protocol.size, "thresholds": protocol.thresholds}
        how |= {"iou_thresholds": protocol.iou_thresholds, "mask_root": entry.mask_root}
        truth = evaluator_for(split, protocol.normalizations, **how).truth
        self.engine = Evaluator.of(protocol, truth)
        self.reference = Evaluator.of(protocol, truth, backend="reference")
        source, place = open_maps(entry.maps, self.image_ids, siblings=split.image_ids, nwc=entry.nwc), gpu_of(device)
        for image_ids, maps in source.batches(_BATCH):
            self.engine.update(maps if place is None else moved(maps, place), image_ids)
            self.reference.update(maps, image_ids)
            if progress is not None:
                progress("sample", self.engine.num_images, len(self.image_ids))
        self.problems = source.problems
        if not self.engine.num_images:
            raise NothingCounted(entry.maps, self.problems, len(self.image_ids))

    def checks(self) -> Iterator[Check]:
        """Whether the engine and the reference agree, and all maps are there."""
        num = self.engine.num_images
        what = f"all counts of {num:,} images under {len(self.protocol.names):,} normalizations"
        state, text = (AGREES, f"{what} are equal") if self.engine == self.reference else (DIFFERS, f"{what} differ")
        yield Check("engine and reference", state, text)
        if self.problems:
            image_id, reason = next(iter(self.problems.items()))
            text = f"{len(self.problems):,} that were counted cannot be read now, such as {image_id}: {reason}"
            yield Check("images", DIFFERS, text)

    def refute(self, content: Mapping[str, Any]) -> Iterator[Check]:
        """What the sample, and the figures among each other, say of each row.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: The file's rows are none.
        """
        num_images, rows = content["num_images"], content["normalizations"]
        if num_images != self.num_all:
            yield Check("num_images", DIFFERS, f"recorded {num_images!r:.100}, there are {self.num_all:,}")
            return
        if [row["normalization"] for row in rows] != self.protocol.names:
            yield Check("normalizations", DIFFERS, "the rows are not those of the protocol")
            return
        # What six standard deviations of a share of one half are: of a tail below 1e-9.
        num, last = self.engine.num_images, max(1, self.num_all - 1)
        points = 100 * 6.1 * math.sqrt(0.25 / num * (self.num_all - num) / last)
        for place, row in enumerate(rows):
            faults = list(self._faults(row, place))
            if faults:
                more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
                yield Check(row["normalization"], DIFFERS, faults[0] + more)
            elif row["max_box_acc_v2"] is not None:
                text = (
                    f"not refuted by {num:,} of {self.num_all:,} images, which tell nothing below {points:.1f} points"
                )
                yield Check(row["normalization"], AGREES, text)
            if row["pxap"] is not None:
                yield Check(
                    row["normalization"], NOTED, "PxAP is not checked: it is an area over the pixels of all images"
                )
        unchecked = [name for name in ("percentile_curves",) if content.get(name)]
        if "thresholds" in content:
            unchecked.append("curves over thresholds")
        if unchecked:
            yield Check(", ".join(unchecked), NOTED, "not checked by a sample")

    def _faults(self, row: Mapping[str, Any], place: int) -> Iterator[str]:
        """What is wrong with a row of box accuracies."""
        counts, thresholds = self.engine.num_correct, self.protocol.thresholds
        if counts is None:
            return
        ious = self.protocol.iou_thresholds.tolist()
        fields_of = (("max_box_acc", "best_threshold"), ("max_box_acc_v2_per_iou", "best_threshold_v2"))
        for contours, (name, where) in enumerate(fields_of):
            if list(map(float, row[name])) and sorted(map(float, row[name])) != sorted(ious):
                yield f"{name}: expected IoU {ious}, found {list(row[name])}"
                return
            for iou, value in row[name].items():
                at = np.flatnonzero(thresholds == row[where][iou])
                hits = round(value * self.num_all / 100)
                if len(at) != 1:
                    yield f"{where}.{iou}: {row[where][iou]!r:.100} is none of the protocol's thresholds"
                elif not 0 <= hits <= self.num_all or formulas.box_accuracy(np.int64(hits), self.num_all) != value:
                    yield f"{name}.{iou}: {value!r:.100} percent is no share of {self.num_all:,} images"
                else:
                    found = int(counts[contours, place, ious.index(float(iou)), at[0]])
                    if self._is_refuted(hits, found):
                        share = 100 * found / self.engine.num_images
                        yield f"{name}.{iou}: {value:.2f} was recorded, the sample has {share:.2f} at that threshold"
        means = np.array([row["max_box_acc_v2_per_iou"][iou] for iou in row["max_box_acc_v2_per_iou"]], np.float64)
        by_iou = means[np.argsort([ious.index(float(each)) for each in row["max_box_acc_v2_per_iou"]])]
        if formulas.max_box_acc_v2(by_iou) != row["max_box_acc_v2"]:
            yield f"max_box_acc_v2: {row['max_box_acc_v2']!r:.100} is not the mean over IoU thresholds"

    def _is_refuted(self, hits: int, found: int) -> bool:
        """Whether so many hits in the sample all but cannot be if there are so many in all images."""
        from scipy.stats import hypergeom

        law = hypergeom(self.num_all, hits, self.engine.num_images)
        return bool(min(law.cdf(found), law.sf(found - 1)) < _REFUTED)
