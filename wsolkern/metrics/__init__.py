"""From counts to the numbers of a paper: MaxBoxAcc, MaxBoxAccV2 and PxAP of every normalization.

In: batches of CAMs or score maps with their image ids. Out: integer counts that add up, and a Result of them.
Source: Choe et al., arXiv 2007.04178, section 4 (MaxBoxAcc, MaxBoxAccV2, PxAP).

Beside it: `selection` (percentiles from train-fullsup), `bootstrap` (confidence
intervals), `diagnostics` (extremes of the maps).
"""

from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.formulas import box_accuracy, max_box_acc, max_box_acc_v2, precision_recall, pxap
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.protocol import GroundTruth, Protocol
from wsolkern.metrics.result import Measured, NormalizationResult, Result

__all__ = [
    "Evaluator",
    "GroundTruth",
    "Measured",
    "Metric",
    "NormalizationResult",
    "Protocol",
    "Result",
    "box_accuracy",
    "max_box_acc",
    "max_box_acc_v2",
    "precision_recall",
    "pxap",
]
