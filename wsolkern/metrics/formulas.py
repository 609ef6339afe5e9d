"""The metric formulas, each as one small function on integer counts.

In: hits per threshold and number of images, or a pixel histogram. Out: percentages and precision-recall curves.
Source: Choe et al., arXiv 2007.04178, section 4; the order of operations is the published evaluator's, to the bit.
"""

import numpy as np


def box_accuracy(num_correct: np.ndarray, num_images: int) -> np.ndarray:
    """Box accuracy: the share of images whose box reaches the IoU threshold.

    Args:
        num_correct: Images that hit, int64 [...].
        num_images: Images that were counted, at least 1.

    Returns:
        float64 [...], in percent.
    """
    return num_correct * 100.0 / num_images


def max_box_acc(accuracy: np.ndarray) -> np.ndarray:
    """MaxBoxAcc: the box accuracy at the threshold that suits each IoU threshold best.

    Args:
        accuracy: Box accuracies over thresholds in percent, float64 [..., T].

    Returns:
        float64 [...], in percent.
    """
    return np.asarray(accuracy.max(axis=-1))


def best_thresholds(accuracy: np.ndarray) -> np.ndarray:
    """Where the maximum over thresholds is reached, the first place of several.

    Args:
        accuracy: Box accuracies over thresholds, float64 [..., T].

    Returns:
        Places of thresholds, int64 [...].
    """
    return np.asarray(accuracy.argmax(axis=-1))


def max_box_acc_v2(max_per_iou: np.ndarray) -> float:
    """MaxBoxAccV2: the mean of the maxima, each IoU threshold at its own best threshold.

    Args:
        max_per_iou: Maximal box accuracies in percent, over all contours, float64 [D].

    Returns:
        Percent.
    """
    return float(np.average(max_per_iou))


def precision_recall(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel precision and recall, from the top bin of the histogram down.

    Args:
        histogram: Pixels per bin, int64 [2, T + 2]: object pixels, background pixels. The bins are
            [t0, t1), ..., [t last, 1), [1, 2), [2, 3] in terms of the thresholds t.

    Returns:
        (precision, recall): float64 [T + 2] each, fractions. Entry i predicts the pixels of the top i + 1 bins; where
        these hold no pixel at all, precision is 1.

    Raises:
        ValueError: No object pixel, so recall is undefined.
    """
    true_positives, false_positives = histogram[:, ::-1].cumsum(axis=1)
    num_positives = true_positives[-1]
    if num_positives == 0:
        raise ValueError("masks: expected at least one object pixel in all images together, found none")
    predicted = true_positives + false_positives
    precision = np.divide(true_positives, predicted, out=np.ones(len(predicted)), where=predicted != 0)
    return precision, true_positives / num_positives


def pxap(histogram: np.ndarray) -> float:
    """PxAP: the area under the pixel precision-recall curve, the first (empty) bin left out.

    Args:
        histogram: Pixels per bin, int64 [2, T + 2], as for :func:`precision_recall`.

    Returns:
        Percent.

    Raises:
        ValueError: No object pixel, so recall is undefined.
    """
    precision, recall = precision_recall(histogram)
    predicts_any = histogram.sum(axis=0)[::-1].cumsum() != 0
    # Terms without a prediction are dropped, not zeroed: numpy's pairwise sum depends on how many terms there are.
    terms = (precision[1:] * np.diff(recall))[predicts_any[1:]]
    return float(100 * terms.sum())


def pixel_overlap(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that object and score map share at each threshold, and those that one of them has at least.

    At a threshold t the score map has the pixels with a score of at least t. Ignored pixels do not count.

    Args:
        histogram: Pixels per bin, int64 [..., 2, T + 2], as for :func:`precision_recall`; the first threshold is 0, so
            that every pixel is in a bin.

    Returns:
        (intersection, union): int64 [..., T] each.
    """
    from_above = histogram[..., ::-1].cumsum(axis=-1)[..., ::-1]
    true_positives, false_positives = from_above[..., 0, :-2], from_above[..., 1, :-2]
    return true_positives, from_above[..., 0, :1] + false_positives


def pixel_iou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Pixel IoU: intersection over union, 0 where the union has no pixel.

    Args:
        intersection, union: int64 [...], as from :func:`pixel_overlap`: of one image, or summed over images.

    Returns:
        float64 [...], fractions.
    """
    return np.asarray(np.divide(intersection, union, out=np.zeros(np.shape(union)), where=union != 0))
