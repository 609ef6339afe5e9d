"""What IoUs cost in place of hits, on one core: `python -m benchmarks.ious`.

In: demo CAMs, CAM-like maps, white noise, plateaus. Out: a line a case: microseconds a map of box_hits and box_ious,
measured in turns, and the median of their ratios, after the IoUs were compared with the hits.
Source: the operations of wsolkern.ops.
"""

import os

import numpy as np

from benchmarks import inputs
from benchmarks.harness import WrongResult, rounds, use_cores
from wsolkern.ops import box_hits, box_ious

NUM_MAPS, NUM_ROUNDS = 24, 7
SETS = ("ivr:0.45", "minmax max pas:0.9 ivr:0.45")
DELTAS = np.array([0.3, 0.5, 0.7])


def compare(kind: inputs.Inputs, normalizations: str, contours: str, num_rounds: int = NUM_ROUNDS) -> np.ndarray:
    """Seconds [rounds, 2] of hits and IoUs of a kind of maps.

    Raises:
        WrongResult: The IoUs that reach an IoU threshold are not the hits.
    """
    cams, boxes = kind.cams[:NUM_MAPS], kind.boxes[:NUM_MAPS]
    ious = box_ious(cams, boxes, normalizations, contours=contours)
    hits = box_hits(cams, boxes, normalizations, iou_thresholds=DELTAS, contours=contours)
    if not np.array_equal(ious[..., None, :] >= DELTAS[:, None], hits):
        raise WrongResult(f"{kind.name}, {normalizations}, {contours}: IoUs and hits differ")
    calls = [
        lambda: box_hits(cams, boxes, normalizations, iou_thresholds=DELTAS, contours=contours),
        lambda: box_ious(cams, boxes, normalizations, contours=contours),
    ]
    return rounds(calls, num_rounds)


def main() -> None:
    """Prints all cases."""
    use_cores([max(os.sched_getaffinity(0))])
    demo, problem = inputs.demo()
    if problem:
        print(problem)
    for kind in (*demo, *inputs.synthetic(np.random.default_rng(0), NUM_MAPS)):
        for normalizations in SETS:
            for contours in ("all", "largest", "both"):
                times = compare(kind, normalizations, contours)
                hits, ious = np.median(times, axis=0) * 1e6 / min(NUM_MAPS, len(kind.cams))
                ratio = np.median(times[:, 1] / times[:, 0])
                print(
                    f"{kind.name:16}{normalizations:30}{contours:9}{hits:8.0f} us{ious:8.0f} us{ratio:7.2f}", flush=True
                )


if __name__ == "__main__":
    main()
