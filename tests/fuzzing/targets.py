"""What is fuzzed: every reader of files and texts that others made, as one table.

In: bytes of any origin. Out: the reader accepts them, and what it accepted is consistent; or it refuses them with an
error of its own whose message names the file.
Source: none.
"""

import hashlib
import io
import json
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from PIL import Image

from wsolkern import Evaluator, ops
from wsolkern.box_rule import BOX_RULES, BoxRule
from wsolkern.cams import CamStore, CamWriter, Manifest, layout
from wsolkern.datasets import ImageFolder, MapFolder, importing, load_metadata
from wsolkern.datasets.importing import Choices, run_lengths
from wsolkern.datasets.masks import load_mask
from wsolkern.metrics import Protocol
from wsolkern.models.weights import find_weights, read_file
from wsolkern.normalization import parse_all
from wsolkern.studies import evaluate
from wsolkern.studies.verification import verify
from wsolkern.training.recipe import Recipe

IDS = ("a/1.jpg", "b.jpg", "c,d.jpg")
SIZE = (6, 7)
FILES = {
    "image_ids.txt": 'a/1.jpg\nb.jpg\n"c,d.jpg"\n',
    "class_labels.txt": 'a/1.jpg,0\nb.jpg,2\n"c,d.jpg",1\n',
    "image_sizes.txt": 'a/1.jpg,20,10\nb.jpg,9,9\n"c,d.jpg",7,40\n',
    "localization.txt": 'a/1.jpg,1,2,8,9\na/1.jpg,0,0,20,10\nb.jpg,3,3,3,3\n"c,d.jpg",0,0,6,39\n',
}
MASKED = 'a/1.jpg,m/1.png,m/i.png\na/1.jpg,m/2.png,\nb.jpg,"m,3.png",\n"c,d.jpg",m/4.png,\n'


class Refused(Exception):
    """What a reader reports of a file without raising; the message is the report."""


@dataclass(frozen=True)
class Target:
    """One reader.

    Raises whatever it raises when ``run`` is called with a folder, empty or as the last call left it, and the content.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    """Contents that are whole; mutations begin with them."""
    run: Callable[[Path, bytes], object]
    names: tuple[str, ...] = ()
    """What the message of an error must have one of: the name of the file, or the argument's."""
    allowed: tuple[type[Exception], ...] = (ValueError,)
    """Errors of the project's own kind: ValueError (DatasetError, ArgumentError, ...) with a message."""

    def __call__(self, folder: Path, content: bytes) -> bool:
        """Whether the content is accepted.

        Raises:
            Exception: A finding.
        """
        try:
            self.run(folder, content)
        except Refused as error:
            text = str(error)
        except self.allowed as error:
            text = str(error)
            if type(error).__module__.startswith(("json", "numpy", "PIL")) or isinstance(error, UnicodeError):
                raise AssertionError(f"not an error of its own: {error!r:.300}") from error
        else:
            return True
        if self.names and not any(each in text for each in self.names):
            raise AssertionError(f"the message names none of {', '.join(self.names)}: {text:.300}")
        if len(text) > 20_000:
            raise AssertionError(f"the message has {len(text):,} characters: {text:.300}")
        return False


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def made(write: Callable[[Path], object]) -> bytes:
    """What a function writes to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        write(path)
        return next(Path(folder).glob("file*")).read_bytes()


# Metadata


def metadata(name: str, localization: str = FILES["localization.txt"]) -> Target:
    def run(folder: Path, content: bytes) -> None:
        for other, text in (FILES | {"localization.txt": localization}).items():
            put(folder / "split" / other, content if other == name else text.encode())
        split = load_metadata(folder / "split")
        split.resized_boxes()
        split.write(folder / "again")
        assert load_metadata(folder / "again").sha256() == split.sha256(), "what was read is not read back"

    kind = "metadata-masks" if localization is MASKED else f"metadata-{name.removesuffix('.txt')}"
    text = localization if name == "localization.txt" else FILES[name]
    return Target(kind, lambda: [text.encode(), text.replace("\n", "\r\n").encode("utf-8-sig")], run, tuple(FILES))


# Maps


def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def npy(values: np.ndarray) -> bytes:
    return made(lambda path: np.save(path, values))


def map_files(suffix: str, seeds: Callable[[], list[bytes]]) -> Target:
    def run(folder: Path, content: bytes) -> None:
        path = put(folder / "maps" / f"m{suffix}", content)
        source = MapFolder(path.parent, ["m.jpg"])
        found = list(source.batches())
        if source.problems:
            raise Refused(source.problems["m.jpg"])
        ((_, (values,)),) = found
        if suffix == ".npy":
            expected = np.load(io.BytesIO(content), allow_pickle=False)
            np.testing.assert_array_equal(values, expected.astype(values.dtype))

    return Target(f"map{suffix}", seeds, run, ("m.npy", "m.npz", "m.safetensors"))


def archive(suffix: str, seeds: Callable[[], list[bytes]]) -> Target:
    def run(folder: Path, content: bytes) -> None:
        source = MapFolder(put(folder / f"archive{suffix}", content), ["m.jpg", "n.jpg"])
        for _, values in source.batches():
            assert values.ndim == 3
        if source.problems:
            raise Refused(" ".join(source.problems.values()))

    return Target(f"archive{suffix}", seeds, run, ("archive", "no map", "m", "n"))


def tensors(**arrays: np.ndarray) -> bytes:
    return safetensors.numpy.save(arrays)


# safetensors files whose header is mutated as text: a length that fits stands before it again


def loose(content: bytes) -> bytes:
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length] + b"\0" + content[8 + length :]


def tight(content: bytes) -> bytes:
    header, _, data = content.partition(b"\0")
    return struct.pack("<Q", len(header)) + header + data


# Stores, whose hashes are made right again


@cache
def store() -> dict[str, bytes]:
    """The files of a small store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store")
        with CamWriter(path, Manifest("cams", "CUB", "test", "CAM", "VGG16", nwc=True)) as writer:
            maps = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
            writer.add(IDS, maps, nwc_cams=-maps, classes=[0, 2, 1])
        return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def resealed(content: bytes) -> bytes:
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
        if isinstance(found, dict):
            found.pop("sha256", None)
            return layout._seal(found)
    return content


def in_store(name: str) -> Target:
    shard = "shards/000000.safetensors"

    def run(folder: Path, content: bytes) -> None:
        content = tight(content) if name == "shard" else resealed(content)
        files = store() | {shard if name == "shard" else name: content}
        if name == "shard":
            entry = {"file": shard, "sha256": hashlib.sha256(content).hexdigest(), "num_maps": 3, "bytes": len(content)}
            index = json.loads(files["index.json"])
            files["index.json"] = resealed(json.dumps(index | {"shards": [entry]}).encode())
        for each, text in files.items():
            put(folder / "store" / each, text)
        found = CamStore(folder / "store")
        split_of(folder / "split")
        found.classification(load_metadata(folder / "split"))
        problems = found.verify()
        for records in found.records():
            assert records.cams.ndim == 3 and len(records.cams) == len(records.image_ids)
        source = found.source(IDS)
        list(source.batches())
        if problems:
            raise Refused(" ".join(f"{each}: {text}" for each, text in problems.items()))

    seed = loose(store()[shard]) if name == "shard" else store()[name]
    return Target(f"store-{name}", lambda: [seed], run, ("store", "manifest.json", "index.json", "shards/"))


def split_of(folder: Path) -> Path:
    for name, text in FILES.items():
        put(folder / name, text.encode())
    return folder


# Counts, recipes, weights, results


def counted() -> Evaluator:
    boxes = {each: np.array([[1, 1, 4, 3]]) for each in IDS}
    mask = (np.random.default_rng(1).random(SIZE) < 0.4).astype(np.uint8)
    masks = {each: mask for each in IDS}
    how = {"size": SIZE, "thresholds": np.arange(0, 1, 0.25), "boxes": boxes, "masks": masks}
    evaluator = Evaluator(["minmax", "ivr:0.45+pas:0.9"], **how)
    evaluator.update(np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32), IDS)
    return evaluator


def unhashed(content: bytes) -> bytes:
    """Counts without their own hash, which files of earlier versions lack."""
    header = json.loads(loose(content).partition(b"\0")[0])
    about = json.loads(header["__metadata__"]["wsolkern"])
    del about["sha256"]
    header["__metadata__"]["wsolkern"] = json.dumps(about)
    return json.dumps(header).encode() + b"\0" + loose(content).partition(b"\0")[2]


def read_counts(folder: Path, content: bytes) -> None:
    found = Evaluator.load(put(folder / "counts", tight(content)))
    again = Evaluator.from_bytes(found.to_bytes())
    assert again == found, "counts are not read back"
    if found.num_images:
        with suppress(ValueError):  # no object pixel
            found.compute()


def read_recipe(folder: Path, content: bytes) -> None:
    found = Recipe.read(put(folder / "recipe.toml", content), {})
    again = Recipe.read(put(folder / "recipe.toml", found.to_toml().encode()), {})
    assert again.to_dict() == found.to_dict(), "a recipe is not read back"


def read_weights(folder: Path, content: bytes) -> None:
    path = put(folder / "weights.pth", content)
    expected = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
    found = find_weights(path, read_file(path), expected)
    assert {name: each.shape for name, each in found.state.items()} == {n: e.shape for n, e in expected.items()}


def checkpoints() -> list[bytes]:
    state = {"module.a.weight": torch.ones(2, 3), "module.a.bias": torch.ones(2)}
    content = {"state_dict": state, "epoch": 3, "architecture": "resnet50"}
    old = made(lambda path: torch.save(content, path, _use_new_zipfile_serialization=False))
    plain = {name: each.numpy() for name, each in state.items()}
    return [made(lambda path: torch.save(content, path)), old, safetensors.numpy.save(plain)]


def world(folder: Path) -> tuple[Path, Path]:
    """Maps and metadata."""
    if not (folder / "maps").exists():
        for name in IDS:
            put(folder / "maps" / f"{name}.npy", npy(array()))
        split_of(folder / "split")
    return folder / "maps", folder / "split"


def results() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        maps, split = world(Path(folder))
        how = {"size": SIZE, "thresholds": np.arange(0, 1, 0.25)}
        found = evaluate(maps, load_metadata(split), "minmax", **how).to_dict()
    older = {name: each for name, each in found.items() if name != "provenance"}
    return [json.dumps(each).encode() for each in (found, older)]


def read_result(folder: Path, content: bytes) -> None:
    maps, split = world(folder)
    # Places are the file's own to name: no content may make this read what is not here.
    verify(put(folder / "result.json", content), maps=maps, metadata=split)


# Importers


def image_bytes(size: tuple[int, int] = (20, 10), file_format: str = "PNG", mode: str = "RGB", **more) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, **more).save(out, file_format)
    return out.getvalue()


def importer(
    name: str, file: str, do: Callable, texts: Sequence[str], others: dict[str, bytes] | None = None
) -> Target:
    def run(folder: Path, content: bytes) -> None:
        for each, text in {**(others or {}), file: content}.items():
            put(folder / "source" / each, text)
        with tempfile.TemporaryDirectory(dir=folder) as out:
            root = folder / "source"
            found = do(root, root / file, Path(out, "metadata"), Path(out, "masks"))
            for split, each in found.splits.items():
                assert load_metadata(Path(out, "metadata", split)).sha256() == each.sha256()

    names = (Path(file).name, "source", "metadata: no image is left", *(Path(each).name for each in others or {}))
    return Target(f"import-{name}", lambda: [each.encode() for each in texts], run, names)


COCO = {
    "images": [{"id": 7, "file_name": "a.jpg", "width": 20, "height": 10}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 90, "name": "ant"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1.5, 2.4, 10.0, 3.2], "iscrowd": 0,
         "segmentation": {"size": [10, 20], "counts": [150, 50]}},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "segmentation": [[12, 6, 16, 6, 16, 9]]},
    ],
}  # fmt: skip
CSV = "image,class,x0,y0,x1,y1,width,height\na.jpg,cat,1,2,5,6,20,10\nb.jpg,ant,0.5,2,5,6,20,10\n"
VOC = """<annotation><filename>a.jpg</filename><size><width>20</width><height>10</height></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10</ymax>
</bndbox></object></annotation>"""
ILSVRC_XML = """<annotation><size><width>500</width><height>360</height></size><object><name>n02105855</name>
<bndbox><xmin>85</xmin><ymin>1</ymin><xmax>499</xmax><ymax>272</ymax></bndbox></object></annotation>"""
VAL, OPEN = "ILSVRC2012_val_00000002", "0" * 15 + "1"
OPEN_MASKS = (
    "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
    f"{OPEN}_m02b_aa.png,{OPEN},/m/02b,aa,0.2,0.5,0.2,0.5,0.9,\n"
)
OPEN_BOXES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
    f"{OPEN},xclick,/m/02b,1,0.72,0.9,0.1,0.5,0,0,1,0,0\n"
)
CUB = {
    "classes.txt": "1 001.A\n2 002.B\n",
    "images.txt": "1 001.A/A_1.jpg\n2 002.B/B_1.jpg\n",
    "image_class_labels.txt": "1 1\n2 2\n",
    "train_test_split.txt": "1 0\n2 1\n",
    "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 14.0 112.0 388.0 186.0\n",
}


def importers() -> list[Target]:
    jpeg = image_bytes((500, 360), "JPEG")
    pictures = {f"images/{each}": jpeg for each in ("001.A/A_1.jpg", "002.B/B_1.jpg")}
    ilsvrc = {f"val/{VAL}.JPEG": jpeg}
    mask = image_bytes(mode="L", color=255)
    of_open = {
        f"validation/{OPEN}.jpg": image_bytes(file_format="JPEG"),
        f"masks/{OPEN}_m02b_aa.png": mask,
        "validation-annotations-object-segmentation.csv": OPEN_MASKS.encode(),
        "validation-annotations-bbox.csv": OPEN_BOXES.encode(),
    }

    def openimages(root: Path, file: Path, out: Path, masks: Path):
        return importing.import_openimages(root, out, Choices(masks=masks))

    found = [
        importer("coco", "c.json", lambda root, file, out, masks: importing.import_coco(file, out), [json.dumps(COCO)]),
        importer(
            "coco-masks", "c.json",
            lambda root, file, out, masks: importing.import_coco(file, out, Choices(masks=masks)), [json.dumps(COCO)],
        ),
        importer("csv", "t.csv", lambda root, file, out, masks: importing.import_csv(file, out), [CSV]),
        importer("voc", "Annotations/a.xml", lambda root, file, out, masks: importing.import_voc(root, out), [VOC]),
        importer(
            "ilsvrc-csv", "LOC_val_solution.csv", lambda root, file, out, masks: importing.import_ilsvrc(root, out),
            [f"ImageId,PredictionString\n{VAL},n02105855 85 1 499 272 n02105855 0 0 9 9\n"], ilsvrc,
        ),
        importer(
            "ilsvrc-xml", f"Annotations/CLS-LOC/val/{VAL}.xml",
            lambda root, file, out, masks: importing.import_ilsvrc(root, out), [ILSVRC_XML],
        ),
        importer("openimages-masks", "validation-annotations-object-segmentation.csv", openimages, [OPEN_MASKS],
                 of_open),
        importer("openimages-boxes", "validation-annotations-bbox.csv", openimages, [OPEN_BOXES], of_open),
    ]  # fmt: skip
    for name, text in CUB.items():
        others = {each: other.encode() for each, other in CUB.items() if each != name} | pictures
        found.append(
            importer(
                f"cub-{name.removesuffix('.txt')}", name,
                lambda root, file, out, masks: importing.import_cub(root, out), [text], others,
            )
        )  # fmt: skip
    return found


# Pixels and texts


def read_image(folder: Path, content: bytes) -> None:
    put(folder / "images" / "p.jpg", content)
    source = ImageFolder(folder / "images", ["p.jpg"], num_readers=1)
    found = source._read("p.jpg")
    if found.pixels is None:
        raise Refused(found.problem)
    assert found.pixels.dtype == np.float32 and np.isfinite(found.pixels).all()


def read_mask(folder: Path, content: bytes) -> None:
    put(folder / "masks" / "p.png", content)
    mask = load_mask(folder / "masks", ["p.png"], size=SIZE)
    assert mask.shape == SIZE and mask.max() <= 1


def pictures(*modes: str) -> list[bytes]:
    """Of all formats that the data sets have, with the tags that change how pixels are read."""
    exif = Image.Exif()
    exif[274] = 6
    found = [image_bytes((5, 4), "PNG", mode) for mode in modes]
    found += [image_bytes((5, 4), each) for each in ("JPEG", "TIFF", "BMP", "GIF")]
    turned = io.BytesIO()
    Image.new("RGB", (5, 4)).save(turned, "JPEG", exif=exif)
    return [*found, turned.getvalue()]


def read_run_lengths(folder: Path, content: bytes) -> None:
    try:
        segmentation = json.loads(content)
    except (ValueError, RecursionError):
        raise Refused("no JSON, which the importers of COCO say") from None
    mask = run_lengths.decode(segmentation, (20, 10))
    assert mask.shape == (10, 20) and mask.dtype == bool


def read_normalizations(folder: Path, content: bytes) -> None:
    found = parse_all(content.decode(errors="replace"))
    assert parse_all(" ".join(map(str, found))) == found


def read_values(folder: Path, content: bytes) -> None:
    """A box rule or a protocol in JSON."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise Refused("no JSON") from None
    kind = Protocol if isinstance(found, dict) and "thresholds" in found else BoxRule
    try:
        value = kind.from_dict(found)
    except (KeyError, TypeError) as error:
        if kind is BoxRule:
            raise
        raise Refused(str(error)) from error
    assert kind.from_dict(json.loads(json.dumps(value.to_dict()))) == value


def operations(folder: Path, content: bytes) -> None:
    """Any float maps: the core is the reference, for boxes and for pixels."""
    if len(content) < 8:
        raise Refused("too short")
    width, height, kind, percentile = 1 + content[0] % 12, 1 + content[1] % 12, content[2] % 5, content[3] % 100
    dtype = (np.uint8, np.float32, np.float64)[content[4] % 3]
    values = np.frombuffer(content[8:].ljust(width * height * 8, b"\0")[: width * height * dtype().itemsize], dtype)
    cam = values.reshape(1, height, width).astype(np.float32 if dtype == np.uint8 else dtype)
    name = ("minmax", "max", "pas:{}", "ivr:{}", "ivr:{}+pas:0.9")[kind].format(percentile / 100)
    size = (1 + content[5] % 16, 1 + content[6] % 16)
    box = np.array([[0, 0, size[1] - 1, size[0] // 2]], np.int32)
    mask = np.frombuffer(content[:8] * 32, np.uint8)[: size[0] * size[1]].reshape(1, *size) % 2
    rule = sorted(BOX_RULES)[content[7] % len(BOX_RULES)]
    thresholds = np.arange(0, 1, 0.1)
    found = [
        (
            ops.box_hits(cam, [box], name, thresholds, contours="both", size=size, rule=rule, backend=backend),
            ops.pixel_histograms(cam, mask, name, thresholds, size=size, backend=backend),
        )
        for backend in ("cpu", "reference")
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@cache
def targets() -> dict[str, Target]:
    """All of them, by name."""
    values = [Protocol("minmax ivr:0.45").to_dict() | {"thresholds": [0.0, 0.5]}, BOX_RULES["ts-cam"].to_dict()]
    segmentations = [
        {"size": [10, 20], "counts": [150, 50]},
        {"size": [10, 20], "counts": "f4b1"},
        [[1, 1, 9, 1, 9, 8]],
    ]
    cams = [bytes([7, 5, 3, 45, 0, 11, 9, 0]) + bytes(range(80)), bytes([3, 2, 1, 9, 1, 6, 7, 1]) + array().tobytes()]
    found = [
        *(metadata(name) for name in FILES),
        metadata("localization.txt", MASKED),
        map_files(".npy", lambda: [npy(array()), npy(np.asfortranarray(array())), npy(array() > 0)]),
        map_files(".npz", lambda: [made(lambda path: np.savez_compressed(path, a=array()))]),
        map_files(".safetensors", lambda: [tensors(a=array()), tensors(a=array().astype(np.float16))]),
        archive(".npz", lambda: [made(lambda path: np.savez(path, **{"m.jpg": array(), "n": array()}))]),
        archive(".safetensors", lambda: [tensors(**{"m.jpg": array(), "n": array()})]),
        *(in_store(name) for name in ("shard", "manifest.json", "index.json")),
        Target("counts", lambda: [loose(counted().to_bytes()), unhashed(counted().to_bytes())], read_counts,
               ("counts",)),
        Target("recipe", lambda: [Recipe("resnet50", "cutmix", lr=1e-5).to_toml().encode()], read_recipe,
               ("recipe.toml",)),
        Target("weights", checkpoints, read_weights, ("weights.pth",)),
        Target("result", results, read_result, ("result.json", "maps", "metadata", "split: ")),
        *importers(),
        Target("image", lambda: pictures("RGB", "P", "I;16", "RGBA", "1"), read_image, ("p.jpg",)),
        Target("mask", lambda: pictures("L", "P", "I;16", "LA", "1"), read_mask, ("p.png",)),
        Target("run-lengths", lambda: [json.dumps(each).encode() for each in segmentations], read_run_lengths),
        Target("normalizations", lambda: [b"minmax ivr:0..0.95/0.05+pas:0.9", b"max,pas:.5"], read_normalizations,
               ("normalization",)),
        Target("values", lambda: [json.dumps(each).encode() for each in values], read_values),
        Target("operations", lambda: cams, operations),
    ]  # fmt: skip
    return {each.name: each for each in found}


def quick() -> None:
    """What tests and fuzzing need not do: force files to the disk."""
    os.fsync = lambda descriptor: None
