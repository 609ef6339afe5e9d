"""One kernel on the device for the first time, on one small map: `python -m benchmarks.gpu_first tree`.

In: which. Out: nothing if the result is that of the CPU engine; else a difference, and exit code 1.
Source: none. benchmarks/gpu.sh runs each in a process of its own, and again under compute-sanitizer.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from wsolkern import ops
from wsolkern.normalization import parse_all
from wsolkern.ops.backends import device_of
from wsolkern.ops.gpu import cutting, resizing

SIZE = (32, 32)
NORMALIZATIONS = ("minmax", "max", "pas:0.9", "ivr:0.45", "ivr:0.3+pas:0.8")


def maps() -> np.ndarray:
    """float32 [1, 8, 8]."""
    return np.random.default_rng(0).standard_normal((1, 8, 8)).astype(np.float32)


def tree() -> None:
    """Hits of a score map, for outer contours and for the largest one."""
    scores = ops.normalize(maps(), "minmax", SIZE, backend="cpu")
    boxes = [np.array([[4, 6, 20, 25]])]
    how = {"iou_thresholds": (0.1, 0.5), "contours": "both"}
    wanted = ops.box_hits(scores, boxes, None, **how, backend="cpu")
    np.testing.assert_array_equal(_host(ops.box_hits(_device(scores), boxes, None, **how, backend="cuda")), wanted)


def affine() -> None:
    """Offsets and divisors, order statistics among them."""
    f = ops.resize(maps(), SIZE, backend="cpu")
    wanted = ops.affine(f, NORMALIZATIONS, backend="cpu")
    np.testing.assert_array_equal(_host(ops.affine(_device(f), NORMALIZATIONS, backend="cuda")), wanted)


def level_image() -> None:
    """The levels of one normalization and the sums of those of all."""
    f = ops.resize(maps(), SIZE, backend="cpu")
    levels = np.stack([(ops.normalize(f, str(each), backend="cpu") * 255).astype(np.uint8) for each in
                       parse_all(NORMALIZATIONS)])  # fmt: skip
    affines = ops.affine(f, NORMALIZATIONS, backend="cpu")
    for some, dtype in ((1, np.uint8), (len(levels), np.int16)):
        found, _ = cutting.level_image(resizing.prepare(_device(maps()), SIZE), _device(affines[:, :some]))
        np.testing.assert_array_equal(_host(found)[0], levels[:some, 0].sum(axis=0, dtype=dtype))


def histograms() -> None:
    """Pixels by score, inside and outside of a mask."""
    masks = np.random.default_rng(1).integers(0, 2, (1, *SIZE), np.uint8)
    wanted, _ = ops.count_pixels(maps(), masks, NORMALIZATIONS, size=SIZE, backend="cpu")
    found, _ = ops.count_pixels(_device(maps()), masks, NORMALIZATIONS, size=SIZE, backend="cuda")
    np.testing.assert_array_equal(_host(found), wanted)


CHECKS = {check.__name__: check for check in (tree, affine, level_image, histograms)}


def main(arguments: "list[str] | None" = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_first", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*CHECKS, "ncu"], help="ncu: a profile of the tree kernel")
    parser.add_argument("report", nargs="?", type=Path, default=Path("ncu.txt"), help="for ncu: where its report goes")
    options = parser.parse_args(arguments)
    if options.what == "ncu":
        from benchmarks.gpu_device import ncu

        print(ncu(options.report))
        return
    CHECKS[options.what]()
    print(f"{options.what}: equal to the CPU engine")


def _device(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device_of(None))


def _host(found) -> np.ndarray:
    return found.cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)


if __name__ == "__main__":
    main()
