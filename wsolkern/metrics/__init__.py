"""From counts to the numbers of a paper: MaxBoxAcc, MaxBoxAccV2 and PxAP of every normalization.

In: batches of CAMs or score maps with their image ids. Out: integer counts that add up, and a Result of them.
Source: Choe et al., arXiv 2007.04178, section 4 (MaxBoxAcc, MaxBoxAccV2, PxAP).

Beside it: `selection` (percentiles from train-fullsup), `bootstrap` (confidence
intervals), `diagnostics` (extremes of the maps), `per_image` (a row an image) with `breakdown` (errors) and `pointing`
(pointing games), `grouping` (by class and by size).
"""

from wsolkern.metrics.breakdown import ErrorRule
from wsolkern.metrics.classification import top_k
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.formulas import box_accuracy, max_box_acc, max_box_acc_v2, precision_recall, pxap
from wsolkern.metrics.grouping import GroupEvaluator
from wsolkern.metrics.localization import LocalizationFigure, SelectedThresholds
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.per_image import Chosen, ImageRows, PerImageEvaluator
from wsolkern.metrics.protocol import GroundTruth, Protocol
from wsolkern.metrics.result import Measured, NormalizationResult, Result

__all__ = [
    "Chosen",
    "ErrorRule",
    "Evaluator",
    "GroundTruth",
    "GroupEvaluator",
    "ImageRows",
    "LocalizationFigure",
    "Measured",
    "Metric",
    "NormalizationResult",
    "PerImageEvaluator",
    "Protocol",
    "Result",
    "SelectedThresholds",
    "box_accuracy",
    "max_box_acc",
    "max_box_acc_v2",
    "precision_recall",
    "pxap",
    "top_k",
]
