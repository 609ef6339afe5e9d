"""``wsolkern figure``: the paper's figures 1 to 6 from one's own stores.

In: CAM stores, a folder of metadata. Out: a picture, JSON.
Source: Kim et al., arXiv 2107.13221, figures 1 to 6.
"""

from pathlib import Path
from typing import Annotated

import typer

from wsolkern import machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.targets import check_targets


def figure(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="1 to 6.", show_default=False)],
    stores: Annotated[
        list[Path],
        typer.Argument(
            metavar="STORES",
            help="CAM stores whose manifests name data set, split, method and backbone; one for 2 and 3.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The picture: .pdf or .svg for print, or .png.")
    ],
    metadata_root: Annotated[
        Path | None,
        typer.Option(help="Folder of DATASET/SPLIT folders with the ground truth; for all figures but 2 and 6."),
    ] = None,
    mask_roots: Annotated[
        list[str] | None,
        typer.Option(
            "--mask-root", metavar="DATASET=DIR", help="Folder that the mask paths of a data set start from (PxAP)."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DATA_ROOT", help="Figure 3: folder that image ids are paths below.")
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--ids", metavar="ID", help="Figures 2 and 3: image ids; the option repeats.")
    ] = None,
    num_bootstrap: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Figure 5: resamples of the images for bands; 0: none.")
    ] = 0,
    size: options.Size = "224",
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    threads: options.Threads = None,
) -> None:
    """Draw a figure of the paper from your own stores.

    1: methods under four normalizations, mean over backbones. 2: what normalizations make of a map's values. 3: score
    maps with boxes. 4 and 6: minimum against maximum of each map, with and without whether boxes are right. 5: accuracy
    over the percentile. The paper's figure 2 is a drawing of the idea; here it is measured on one map.

    - wsolkern figure 5 runs/*-val --metadata-root metadata -o figure5.pdf
    """
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.report.figures import draw_figure

        machine.use_threads(threads)
        options.check_picture("--out", out)
        roots = options.parse_folders(mask_roots or [])
        check_targets({"--out": out, "--json": json_file}, (*stores, metadata_root, images, *roots.values()))
        with studying.running(resumes=False) as progress:
            found = studies.figure(
                number,
                stores,
                metadata_root,
                mask_roots=roots,
                images=images,
                image_ids=ids or [],
                num_resamples=num_bootstrap,
                size=options.parse_size(size),
                progress=progress,
            )
        terminal.deliver_result(
            json_file,
            found.to_dict,
            lambda: streams.print_text(f"figure {number} in {out}: {found.note}\n"),
            lambda: draw_figure(out, found),
            lambda: studying.finish_stores(found.problems, "maps", allow_missing),
        )
