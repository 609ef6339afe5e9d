"""What box rules change on the same CAMs, and what they cost: `python -m benchmarks.box_rules [--speed]`.

In: the demo's CAMs, 7 x 7 and 14 x 14. Out: a table of figures; or, in turns in one process, times of one core against
the plain transcription with OpenCV and scikit-image, after both have given the same hits.
Source: the transcription is tests/box_rule_oracle.py.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wsolkern import Evaluator
from wsolkern.box_rule import BOX_RULES
from wsolkern.demo import demo_cams
from wsolkern.ops import DEFAULT_THRESHOLDS, box_hits

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import box_rule_oracle  # noqa: E402

SIDES = 224, 448
THRESHOLDS = DEFAULT_THRESHOLDS[::10]  # of the timed calls
NUM_TIMED = 8  # maps
IOU_THRESHOLDS = 0.3, 0.5, 0.7


def effects() -> None:
    """Best box accuracy at IoU 0.5 over all thresholds (largest component), MaxBoxAccV2, and accuracy at 0.2."""
    print("| CAMs | rule | normalization | MaxBoxAcc | at threshold 0.2 | MaxBoxAccV2 |\n|---|---|---|---|---|---|")
    for resolution in SIDES:
        cams, boxes, _ = demo_cams(resolution)
        ids = [str(index) for index in range(len(cams))]
        for name in BOX_RULES:
            evaluator = Evaluator("minmax max", boxes=dict(zip(ids, boxes, strict=True)), box_rule=name)
            evaluator.update(cams, ids)
            for row in evaluator.compute():
                at = row.box_accuracy[evaluator.iou_thresholds.tolist().index(0.5)][200]
                figures = f"{row.max_box_acc[0.5]:.2f} | {at:.2f} | {row.max_box_acc_v2:.2f}"
                print(f"| {cams.shape[1]} x {cams.shape[2]} | `{name}` | {row.name} | {figures} |")


def cpu_ms(call: Callable[[], object]) -> float:
    """What one call takes, a map; CPU time is nearly the same on a busy machine."""
    begin = time.process_time()
    call()
    return (time.process_time() - begin) / NUM_TIMED * 1e3


def speeds() -> None:
    """CPU milliseconds a map with 100 thresholds, the largest component only, ours and the transcription's."""
    os.environ["WSOLKERN_NUM_THREADS"] = "1"
    box_rule_oracle.cv2.setNumThreads(1)
    cams, boxes, _ = demo_cams(448)
    cams, boxes = cams[:NUM_TIMED], boxes[:NUM_TIMED]
    print("| rule | wsolkern | transcription | ratio | wsolkern, 1,000 thresholds to 100 |\n|---|---|---|---|---|")
    for name in box_rule_oracle.BOXES:

        def ours(name=name, thresholds=THRESHOLDS):
            how = {"contours": "largest", "rule": name}
            return box_hits(cams, boxes, BOX_RULES[name].normalization, thresholds, IOU_THRESHOLDS, **how)[0]

        def ours_with_all(name=name):
            return ours(name, DEFAULT_THRESHOLDS)

        def plain(name=name):
            maps = zip(cams, boxes, strict=True)
            how = THRESHOLDS, IOU_THRESHOLDS
            return np.stack([box_rule_oracle.hits(name, cam, (224, 224), truth, *how) for cam, truth in maps])

        if not np.array_equal(ours(), plain()):
            raise SystemExit(f"{name}: hits differ, so there is no speed")
        found = np.median([[cpu_ms(each) for each in (ours, ours_with_all, plain)] for _ in range(7)], axis=0)
        ratios = f"{found[2] / found[0]:.0f} | {found[1] / found[0]:.2f}"
        print(f"| `{name}` | {found[0]:.2f} ms | {found[2]:.1f} ms | {ratios} |", flush=True)


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", action="store_true", help="times instead of figures")
    speeds() if parser.parse_args().speed else effects()


if __name__ == "__main__":
    main()
