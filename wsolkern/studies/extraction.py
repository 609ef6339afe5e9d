"""Extract: from images and anyone's classifier to a CAM store, alone or as one of several processes.

In: a model by the name of its function, a data root, a split's metadata. Out: a store, and an Extraction about it.
Source: Zhou et al., arXiv 1512.04150 (CAM); the image transform is that of Choe et al., arXiv 2007.04178.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsolkern.cams import CamStore, CamWriter, Manifest, Ranks, check_cam, named_cams, outdated, shared_writer
from wsolkern.cams import extract as extract_cams
from wsolkern.cams.looks import num_classes_of
from wsolkern.cams.prompts import prompted, read_prompts
from wsolkern.datasets import ImageFolder, Preprocessing, class_folders, load_metadata
from wsolkern.datasets.ids import check_image_ids
from wsolkern.datasets.labels import check_labels, line_of
from wsolkern.errors import ArgumentError, PathError
from wsolkern.models.loading import load_model
from wsolkern.models.sources import ModelSource, model_source
from wsolkern.studies.passes import Progress

_MADE_OF = ("features", "head", "linearised")  # what maps say that they were made of, for the manifest


@dataclass(frozen=True)
class Extraction:
    """What is in a store now."""

    store: str
    """Its folder."""
    num_maps: int
    """CAMs in it."""
    num_images: int
    """Images that were asked for."""
    problems: dict[str, str]
    """Image id -> why it was left out."""
    others: tuple[str, ...]
    """Images in the store that were not asked for."""
    predicted: "Extraction | None" = None
    """The same of the store of the predicted classes' CAMs, where there are both."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        beside = {} if self.predicted is None else {"predicted": self.predicted.to_dict()}
        known = {name: value for name, value in vars(self).items() if name != "predicted"}
        return known | {"others": list(self.others)} | beside


@dataclass(frozen=True)
class _Images:
    """Which images, what they are of, and what a folder's path says about them."""

    image_ids: tuple[str, ...]
    labels: Mapping[str, int] | None
    sizes: Mapping[str, tuple[int, int]] | None
    place: Callable[[str], str]
    """What the label of an image is called in errors."""
    dataset: str | None
    split: str | None


def extract(
    model: str | ModelSource,
    images: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    metadata: str | os.PathLike[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    features: str | None = None,
    head: str | None = None,
    classes: str = "labels",
    nwc: bool = False,
    cam: str = "cam",
    prompts: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    precision: str = "float32",
    dataset: str | None = None,
    split: str | None = None,
    method: str | None = None,
    backbone: str | None = None,
    with_hash: bool = False,
    any_image_size: bool = False,
    on_note: Callable[[str], object] = lambda text: None,
    on_outdated: Callable[[dict[str, str]], object] = lambda old: None,
    progress: Progress | None = None,
) -> Extraction | None:
    """Makes the CAMs of a data set, of images that a store does not have, or has of another class or an earlier file.

    Under torchrun each process makes its share; see :class:`wsolkern.cams.Ranks`.

    Args:
        model: package.module:function that returns a torch.nn.Module, or a function (images, classes) -> CAMs; or
            timm:NAME, with timm's data config; or what :func:`wsolkern.training.trained` says of a run.
        images: Data root, which image ids are paths below.
        out: The store; one that is there goes on.
        metadata: Folder of the split, for image ids and classes; None: each folder in the data root is a class.
        arguments: For the model's function, by name.
        weights: File with the model's weights; None: a run's own.
        features, head: As for :class:`wsolkern.cams.PooledCams`.
        classes: "labels" or "predicted": which class of an image its CAM is of. "both": those of the labels go to
            ``out``, those predicted to a second store beside it, ``out`` with ".predicted" behind its name, from one
            forward pass, but of functions and of methods that need a pass a class. Either goes on from what is there,
            also of runs with one of them alone.
        nwc: Make NWC maps from the same pass; of the CAM method "cam" only.
        cam: The CAM method, a name in :data:`wsolkern.cams.CAM_METHODS`.
        prompts: File with a text a class, one a line, for a model such as CLIP whose classes are texts.
        tokenizer: Folder of that model's tokenizer; None: the folder that the model was loaded from.
        preprocessing: How an image becomes a network's input; or some of its fields, the others being what the model
            asks for, or else :class:`Preprocessing`'s defaults.
        device: "cpu" or "cuda"; under torchrun each process takes a GPU of its own.
        batch_size, precision, with_hash: As for :func:`wsolkern.cams.extract`.
        dataset, split, method, backbone: For the manifest; None: from the metadata's path, a run's method or "CAM", and
            the model's own word.
        any_image_size: Take images of other sizes than listed.
        on_note: Told what a reader of the store should know, by the first process.
        on_outdated: Told image id -> why its CAM is made again, by the first process, before the first pass.
        progress: Called with "extracting", the number of images done and the number of images, by the first process.

    Returns:
        What is in the store; None but in the first process.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        DeviceUnavailable: There is no such device.
        DatasetError: Images, labels, metadata, model and store do not belong together, or no image could be read.
        ValueError, ImportError, OSError: The model cannot be made, or its weights are none of it.
        KeyboardInterrupt: SIGINT or SIGTERM came; what was made is kept, and the message says how much.

    Source: Zhou et al., arXiv 1512.04150, section 2.
    """
    if classes not in ("labels", "predicted", "both"):
        raise ArgumentError("classes", f"expected labels, predicted or both, found {classes!r}")
    check_cam(cam, features=features, head=head, nwc=nwc)
    if tokenizer is not None and prompts is None:
        raise ArgumentError("tokenizer", "expected none without prompts", os.fspath(tokenizer))
    known = model if isinstance(model, ModelSource) else model_source(model, arguments)
    known = known.with_(arguments, None if weights is None else Path(weights))
    if not isinstance(preprocessing, Preprocessing):
        preprocessing = Preprocessing(**{**known.preprocessing, **(preprocessing or {})})
    texts = None if prompts is None else read_prompts(prompts)
    beside = predicted_store(out) if classes == "both" else None
    classes = "labels" if beside else classes
    asked = _asked(Path(images), None if metadata is None else Path(metadata), classes)
    image_ids, labels, out = asked.image_ids, asked.labels, Path(out)
    sizes = None if any_image_size else asked.sizes
    source = ImageFolder(images, image_ids, preprocessing, image_sizes=sizes)
    network, sha256, note = load_model(known.model, known.arguments, known.weights)
    if texts is not None:
        network = prompted(network, texts, tokenizer)
    with Ranks.joined_on(device) as (ranks, place):
        is_first = ranks.rank == 0
        if note and is_first:
            on_note(note)
        if hasattr(network, "to"):
            network = network.to(place)
        looker: Any = named_cams(cam, network, preprocessing.size, features=features, head=head, nwc=nwc)
        if labels is not None:
            num_classes = num_classes_of(looker, preprocessing.size, place)
            labels = check_labels(labels, image_ids, num_classes, place=asked.place)
            num_folders = 1 + max(labels.values())
            # Folders that are fewer than a model's classes are its first ones only by chance.
            if metadata is None and is_first and num_classes is not None and num_folders < num_classes:
                on_note(
                    f"{os.fspath(images)}: the model tells {num_classes:,} classes apart; the {num_folders:,} folders "
                    "are taken for the first of them in the order of their names; if they are others, --metadata says "
                    "which ones"
                )
        manifest = Manifest(
            dataset=dataset or asked.dataset,
            split=split or asked.split,
            method=method or known.method or "CAM",
            backbone=backbone or known.backbone or _backbone(network),
            checkpoint_sha256=sha256,
            # Beside the images' preprocessing what else maps of one run have in common.
            preprocessing={
                **preprocessing.to_dict(),
                "classes": classes,
                "precision": precision,
                **({"any_image_size": True} if any_image_size else {}),
                **({} if cam == "cam" else {"cam": cam}),
                **({} if texts is None else {"prompts": list(texts)}),
                **{name: str(getattr(looker, name)) for name in _MADE_OF if hasattr(looker, name)},
            },
            nwc=nwc,
        )

        def tell(old: dict[str, str]) -> None:
            if old and is_first:
                on_outdated(old)

        def done(num: int) -> None:
            if progress is not None and is_first:  # the first one's share stands for all
                progress("extracting", min(num * ranks.num_ranks, len(image_ids)), len(image_ids))

        others = replace(manifest, preprocessing=manifest.preprocessing | {"classes": "predicted"})
        with ExitStack() as stack:
            outs = [(out, manifest, labels), *([(beside, others, None)] if beside else [])]
            writers, skipped = [], []
            for path, about, classes_of in outs:
                writer, stored = stack.enter_context(shared_writer(path, about, ranks))
                if ranks.num_ranks > 1:
                    # The first one alone changes the store that all read.
                    old: dict[str, str] = {}
                    if is_first:
                        with CamWriter(path, about) as main:
                            old = outdated(CamStore(path), source, classes_of, with_hash=with_hash)
                            tell(old)
                            main.drop(old)
                    stored = stored.difference(ranks.gather(old)[0])
                writers.append(writer)
                skipped.append(stored)
            try:
                mine = extract_cams(
                    looker,
                    source,
                    writers[0],
                    labels,
                    batch_size=batch_size,
                    device=place,
                    precision=precision,
                    rank=ranks.rank,
                    num_ranks=ranks.num_ranks,
                    skip=skipped[0],
                    predicted=writers[1] if beside else None,
                    skip_predicted=skipped[1] if beside else (),
                    with_hash=with_hash,
                    label_place=asked.place,
                    on_outdated=tell,
                    progress=done,
                )
            except KeyboardInterrupt:
                for each in writers:
                    each.flush()
                raise KeyboardInterrupt(f"the CAMs of {len(writers[0].image_ids):,} images are kept") from None
        problems = {image_id: why for each in ranks.gather(mine) for image_id, why in each.items()}
    if not is_first:
        return None
    found = _found(out, image_ids, problems)
    return replace(found, predicted=_found(beside, image_ids, problems)) if beside else found


def predicted_store(out: str | os.PathLike[str]) -> Path:
    """Where the CAMs of the predicted classes go, beside those of the labels in ``out``."""
    return Path(out).with_name(f"{Path(out).name}.predicted")


def _asked(images: Path, metadata: Path | None, classes: str) -> _Images:
    """The images of a split, or of a data root with a folder a class."""
    if metadata is not None:
        truth = load_metadata(metadata, localization=False)
        image_ids, labels, sizes = truth.image_ids, truth.class_labels, truth.image_sizes
        *_, dataset, split = ("", *metadata.resolve().parts)
        if classes == "labels" and not labels:
            raise ArgumentError("classes", f"{metadata} has no class_labels.txt; pass --classes predicted", "labels")
        named = metadata / "image_ids.txt"
    else:
        labels, sizes = class_folders(images), None
        image_ids, dataset, split = tuple(labels), images.resolve().name, None
        named = images
    try:
        check_image_ids(image_ids)
    except ValueError as error:
        raise PathError(named, str(error)) from error

    def place(image_id: str) -> str:
        if metadata is not None:
            return line_of(metadata / "class_labels.txt", image_id)
        return f"{images}: folder {image_id.partition('/')[0]!r} is class {labels[image_id]} by its name"

    return _Images(image_ids, labels if classes == "labels" else None, sizes, place, dataset or None, split)


def _backbone(network: object) -> str:
    """The name that a network gives its backbone, or else its class."""
    name = getattr(network, "backbone", None)
    return name if isinstance(name, str) else type(network).__name__


def _found(out: Path, image_ids: tuple[str, ...], problems: dict[str, str]) -> Extraction:
    """What is in a store after the extraction.

    Raises:
        DatasetError: Nothing, for no image could be read.
    """
    store = CamStore(out)
    if problems and not store.num_maps:
        first = next(iter(problems))
        raise PathError(out, f"none of {len(image_ids):,} images could be read; {first}: {problems[first]}")
    wanted = set(image_ids)
    others = tuple(each for _, entries in store.entries() for each in entries.image_ids if each not in wanted)
    return Extraction(os.fspath(out), store.num_maps, len(image_ids), problems, others)
