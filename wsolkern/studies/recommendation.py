"""Max normalization or IVR: what a measured difference supports, or what the extremes of a run's maps speak for.

In: a Comparison with its bootstrap; or a Diagnosis, data set and backbone. Out: a Recommendation.
Source: Kim et al., arXiv 2107.13221, section 6 and table 1.
"""

import math
from dataclasses import dataclass

from wsolkern.metrics.diagnostics import Comparison, Diagnosis
from wsolkern.studies import paper

RATIO_FOR_MAX = 15.0
"""From here on max is recommended: between 12.04 (VGG16 on ImageNet) and 18.36 (VGG16 on OpenImages)."""
CAVEAT = (
    "The ratio is a rule of thumb: in the paper InceptionV3 on OpenImages has a ratio of 8.19, and max is ahead of IVR "
    "all the same. Where there is ground truth, measure."
)


@dataclass(frozen=True)
class Recommendation:
    """Which normalization there is reason for."""

    normalization: str | None
    """ "max", "ivr:0.45", or "ivr" if its percentile is to be selected; None if nothing speaks for one of them."""
    reason: str
    basis: str = "rule of thumb"
    """ "measured", or "rule of thumb" where there was no ground truth."""


def recommend_measured(measured: Comparison) -> Recommendation:
    """What a measured difference supports: a normalization only if the interval of the difference does not hold 0.

    Args:
        measured: Max and the best IVR on some images, with the bootstrap of their difference.
    """
    found, metric = measured.difference, measured.metric
    if found is None:
        return Recommendation(None, "there is no interval of the difference", "measured")
    level = f"{100 * measured.confidence:.6g}% interval {found.interval[0]:+.2f} to {found.interval[1]:+.2f}"
    difference = f"{found.first} minus {found.second} is {found.figure:+.2f} points of {metric}, {level}"
    if not found.excludes_zero:
        reason = f"these images show no difference: {difference}; max needs no percentile"
        return Recommendation(None, reason, "measured")
    if found.figure < 0:
        return Recommendation(str(found.second), f"{difference}, IVR's percentile being the best of all", "measured")
    reason = f"{difference}; the percentile was chosen on these very images, which favours it: see wsolkern select"
    return Recommendation(str(found.first), reason, "measured")


def recommend(diagnosis: Diagnosis, dataset: str | None = None, backbone: str | None = None) -> Recommendation:
    """Max normalization or IVR, by the ratio of the standard deviations of maxima and minima.

    The paper has it that the higher the ratio, the more max normalization suffices: VGG16 has about 11 on CUB, 12.04 on
    ImageNet and 18.36 on OpenImages, ResNet50 31.79 on OpenImages; on average over its methods (table 1) IVR is ahead
    of max by 0.35 to 2.83 points on CUB and ImageNet, and max by 0.02 to 0.68 on OpenImages. The limit between, 15
    (:data:`RATIO_FOR_MAX`), is ours. It does not explain all: InceptionV3 on OpenImages has 8.19, and max is ahead
    there by the most. So a measurement with ground truth, where there is any, is worth more.

    Args:
        diagnosis: Of the run.
        dataset: Its data set, for the paper's percentile; any spelling that :func:`paper.canonical` knows.
        backbone: Its backbone, likewise.

    Source: Kim et al., arXiv 2107.13221, section 6 and table 1.
    """
    if math.isnan(diagnosis.ratio):
        return Recommendation(None, "the ratio is undefined, since neither minima nor maxima differ between maps")
    if diagnosis.ratio >= RATIO_FOR_MAX:
        return Recommendation("max", f"the ratio {diagnosis.ratio:.2f} is {RATIO_FOR_MAX:g} or more")
    percentile = paper.ivr_percentile(dataset, backbone)
    reason = f"the ratio {diagnosis.ratio:.2f} is below {RATIO_FOR_MAX:g}"
    if percentile is None:
        return Recommendation("ivr", f"{reason}; select the percentile with wsolkern select")
    whose = f"{paper.canonical(str(dataset))} {paper.canonical(str(backbone))}"
    return Recommendation(f"ivr:{percentile}", f"{reason}; the percentile is the paper's for {whose}")
