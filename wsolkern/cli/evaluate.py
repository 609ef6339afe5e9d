"""``wsolkern evaluate``: a folder of maps and a metadata folder to a table of localization metrics.

In: score maps or raw CAMs, one file an image; metadata in the field's layout. Out: a table, JSON, resumable state.
Source: Choe et al., arXiv 2007.04178 (metrics); Kim et al., arXiv 2107.13221 (normalizations).
"""

import hashlib
import json
import os
import re
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern.cli import terminal

if TYPE_CHECKING:
    from wsolkern.datasets import Metadata
    from wsolkern.metrics import Evaluator

_BATCH = 64  # maps
_SAVE_SECONDS = 10.0  # between two savings of the state
_NUM_LISTED = 20  # problems printed; the JSON has all
_STATE = {"content": "wsolkern evaluate", "version": 1}
_DEFAULT_NORMALIZATIONS = "minmax max pas:0.9 ivr:0.45"


def evaluate(
    metadata: Annotated[
        Path,
        typer.Option(
            help="Folder of one split: image_ids.txt, localization.txt (boxes or masks), image_sizes.txt and "
            "class_labels.txt, such as metadata/CUB/test."
        ),
    ],
    cams: Annotated[
        Path | None,
        typer.Option(
            help="Folder of raw class activation maps [h, w] of any size: IMAGE_ID.npy, .npz or .safetensors, the "
            "id's own extension kept or left out; or one .npz or .safetensors file that holds all."
        ),
    ] = None,
    score_maps: Annotated[
        Path | None,
        typer.Option(help="The same for maps that are normalized to [0, 1] and have the evaluation size already."),
    ] = None,
    mask_root: Annotated[
        Path | None, typer.Option(help="Folder that the mask paths of localization.txt start from (PxAP).")
    ] = None,
    normalizations: Annotated[
        list[str] | None,
        typer.Option(
            "--normalizations",
            "-n",
            help="How CAMs become score maps: minmax, max, pas:P, ivr:P or ivr:P+pas:P, P a fraction such as 0.45. "
            "Several in one quoted string, or the option several times. Default: "
            f"'{_DEFAULT_NORMALIZATIONS}'.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Evaluation size in pixels, SIDE or HEIGHTxWIDTH; CAMs are resized to it (bicubic).")
    ] = "224",
    iou_thresholds: Annotated[
        str, typer.Option(help="IoU thresholds as fractions; MaxBoxAccV2 is the mean over them.")
    ] = "0.3 0.5 0.7",
    interval: Annotated[
        float, typer.Option(help="Step between two thresholds on the score map, from 0 up to, not including, 1.")
    ] = 0.001,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit with 0 even if maps are missing or unreadable.")
    ] = False,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write the results as JSON; - for standard output.")
    ] = None,
    curves: Annotated[
        bool, typer.Option("--curves", help="Put box accuracy and precision-recall over all thresholds in the JSON.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to compute with; default: all cores, or WSOLKERN_NUM_THREADS.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="STATE",
            help="File that counts are saved to every few seconds. If it is there already, go on where it ends; maps "
            "that were missing are tried again.",
        ),
    ] = None,
) -> None:
    """Evaluate a folder of CAMs or score maps.

    Maps that are missing or unreadable are left out of the counts, listed at the end, and make the exit code 1.

    - wsolkern evaluate --cams cams/ --metadata metadata/CUB/test

    - wsolkern evaluate --score-maps scoremaps/ --metadata metadata/OpenImages/test --mask-root masks/
    """
    with terminal.errors_as_messages():
        from wsolkern.datasets import MapFolder, load_metadata

        started = time.perf_counter()
        if threads is not None:
            os.environ["WSOLKERN_NUM_THREADS"] = str(threads)
        if (cams is None) == (score_maps is None):
            raise ValueError("--cams, --score-maps: expected exactly one of them")
        if score_maps is not None and normalizations:
            raise ValueError("--normalizations: score maps are normalized already; pass --cams, or leave it out")
        root = Path(score_maps if cams is None else cams)
        names = None if cams is None else _split(" ".join(normalizations or [_DEFAULT_NORMALIZATIONS]))
        split = load_metadata(metadata)
        evaluator = _evaluator(split, names, mask_root, _parse_size(size), iou_thresholds, interval)
        job = _fingerprint(split, mask_root, root, "score maps" if cams is None else "CAMs")
        position, problems = _load_state(resume, evaluator, job) if resume and resume.exists() else (0, {})

        # Images that could not be read last time come first, then those that were not reached.
        retried = tuple(problems)
        folder = MapFolder(root, (*retried, *split.image_ids[position:]), siblings=split.image_ids)
        places = {image_id: place for place, image_id in enumerate(folder.image_ids)}
        failed: dict[str, str] = {}

        def so_far() -> tuple[int, dict[str, str]]:
            untried = {image_id: problems[image_id] for image_id in retried[folder.position :]}
            return position + max(0, folder.position - len(retried)), untried | folder.problems | failed

        with terminal.progress_bar() as bar:
            task = bar.add_task("evaluating", total=len(split.image_ids), completed=evaluator.num_images)
            saved = time.monotonic()
            for image_ids, maps in folder.batches(_BATCH):
                failed |= _count(evaluator, maps, image_ids)
                bar.update(task, completed=evaluator.num_images + len(folder.problems) + len(failed))
                # Counts and position belong together only when the position has passed the images just counted.
                settled = places[image_ids[0]] < folder.position
                if resume and settled and time.monotonic() - saved >= _SAVE_SECONDS:
                    _save_state(resume, evaluator, job, *so_far())
                    saved = time.monotonic()
            position, problems = so_far()
            bar.update(task, completed=evaluator.num_images + len(problems))
        if resume:
            _save_state(resume, evaluator, job, position, problems)
        _report(evaluator, split, root, problems, json_file, curves, markdown, time.perf_counter() - started)
    if problems and not allow_missing:
        raise typer.Exit(terminal.PROBLEMS)


def _evaluator(
    split: "Metadata",
    names: list[str] | None,
    mask_root: Path | None,
    size: tuple[int, int],
    iou_thresholds: str,
    interval: float,
) -> "Evaluator":
    """An empty evaluator for a split."""
    import numpy as np

    from wsolkern.datasets import load_mask
    from wsolkern.metrics import Evaluator

    if not 0 < interval <= 1:
        raise ValueError(f"--interval: expected a fraction in (0, 1], found {interval}")
    try:
        fractions = [float(each) for each in _split(iou_thresholds)]
    except ValueError:
        raise ValueError(
            f"--iou-thresholds: expected fractions such as '0.3 0.5 0.7', found {iou_thresholds!r}"
        ) from None
    how = {"thresholds": np.arange(0, 1, interval), "iou_thresholds": fractions, "size": size}
    if split.kind == "boxes":
        if mask_root is not None:
            raise ValueError(f"--mask-root: {split.folder} localizes objects with boxes, it names no masks")
        return Evaluator(names, boxes=split.resized_boxes(size), **how)
    if mask_root is None:
        raise ValueError(f"--mask-root: needed, because {split.folder} localizes objects with masks")

    def mask(image_id: str) -> np.ndarray:
        return load_mask(mask_root, split.mask_paths[image_id], split.ignore_paths[image_id], size)

    return Evaluator(names, masks=mask, **how)


def _count(evaluator: "Evaluator", maps, image_ids: tuple[str, ...]) -> dict[str, str]:
    """Counts a batch; if it is refused, one map after the other. Returns why images were left out."""
    try:
        evaluator.update(maps, image_ids)
        return {}
    except ValueError as error:
        if len(image_ids) == 1:
            return {image_ids[0]: re.sub(r"^image '.*?': ", "", str(error))}
    failed = {}
    for index, image_id in enumerate(image_ids):
        failed |= _count(evaluator, maps[index : index + 1], (image_id,))
    return failed


def _report(
    evaluator: "Evaluator",
    split: "Metadata",
    root: Path,
    problems: dict[str, str],
    json_file: str | None,
    curves: bool,
    markdown: bool,
    seconds: float,
) -> None:
    """Prints the table and what was left out."""
    import wsolkern
    from wsolkern.report.tables import markdown_table

    if evaluator.num_images:
        result = evaluator.compute()
        if json_file is not None:
            content = {
                "wsolkern": wsolkern.__version__,
                "maps": str(root),
                "metadata": split.folder,
                "size": list(evaluator.size),
                "num_missing": len(problems),
                "missing": problems,
                "seconds": round(seconds, 3),
                **result.to_dict(curves=curves),
            }
            terminal.write_json(content, json_file)
        if json_file != "-":
            if markdown:
                typer.echo(markdown_table(result), nl=False)
            else:
                what = f"{result.num_images:,} images of {split.folder}, {len(result.thresholds)} thresholds"
                terminal.print_result(result, f"{what}, metrics in percent")
    if problems:
        console = terminal.stderr()
        console.print(f"{len(problems):,} of {len(split.image_ids):,} maps were left out:", style="yellow")
        for image_id, reason in list(problems.items())[:_NUM_LISTED]:
            console.print(f"  {image_id}: {reason}", markup=False)
        if len(problems) > _NUM_LISTED:
            console.print(f"  and {len(problems) - _NUM_LISTED:,} more; --json FILE lists all")
    if not evaluator.num_images:
        raise ValueError(f"{root}: no map could be read")


def _fingerprint(split: "Metadata", mask_root: Path | None, root: Path, kind: str) -> str:
    """What a saved state is about: these maps against this ground truth. Settings are in the counts' own file."""
    truth = {image_id: boxes.tolist() for image_id, boxes in split.boxes.items()} or [
        split.mask_paths,
        split.ignore_paths,
        str(mask_root.resolve()) if mask_root else None,
    ]
    content = [kind, str(root.resolve()), split.image_ids, split.image_sizes, truth]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _save_state(path: Path, evaluator: "Evaluator", job: str, position: int, problems: dict[str, str]) -> None:
    """Writes counts and how far they go as one file, whole or not at all.

    Counted are the first ``position`` images of the split but those in ``problems``.
    """
    progress = {**_STATE, "job": job, "position": position, "problems": problems}
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.absolute().parent) as scratch:
        counts, unfinished = Path(scratch, "counts"), Path(scratch, "state")
        evaluator.save(counts)
        with open(unfinished, "wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("progress.json", json.dumps(progress))
                archive.write(counts, "counts.safetensors")
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)


def _load_state(path: Path, evaluator: "Evaluator", job: str) -> tuple[int, dict[str, str]]:
    """Adds the counts of a state to an empty evaluator; returns position and problems."""
    from wsolkern.metrics import Evaluator

    advice = "delete the file to start anew"
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as scratch:
            progress = json.loads(archive.read("progress.json"))
            if {name: progress.get(name) for name in _STATE} != _STATE:
                raise ValueError(f"expected {_STATE}")
            loaded = Evaluator.load(archive.extract("counts.safetensors", scratch))
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError) as error:
        raise ValueError(
            f"--resume {path}: expected a state of wsolkern evaluate, found another file ({error})"
        ) from error
    if progress["job"] != job:
        raise ValueError(f"--resume {path}: it counts other maps, other metadata or other masks; {advice}")
    try:
        evaluator.merge(loaded)
    except ValueError as error:
        raise ValueError(f"--resume {path}: {str(error).removeprefix('other: ')}; {advice}") from error
    return progress["position"], progress["problems"]


def _split(text: str) -> list[str]:
    """Items between commas or spaces."""
    return [item for item in re.split(r"[,\s]+", text) if item]


def _parse_size(text: str) -> tuple[int, int]:
    """(height, width) from "224" or "224x320"."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip())
    if match is None:
        raise ValueError(f"--size: expected SIDE or HEIGHTxWIDTH in pixels, found {text!r}")
    return int(match[1]), int(match[2] or match[1])
