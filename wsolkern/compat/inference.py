"""CAMs of a model's loader, normalized and evaluated, under the published names.

In: a model that gives CAMs, a loader of (images, targets, image ids), metadata. Out: score maps as files, performance.
Source: ``CAMComputer`` of Kim et al. (arXiv 2107.13221), itself after Choe et al.: names, signature and values.
"""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from wsolkern import ops
from wsolkern.cams.records import check_image_ids
from wsolkern.compat.data_loaders import configure_metadata
from wsolkern.compat.evaluation import BoxEvaluator, MaskEvaluator, accumulate_all, make_evaluator
from wsolkern.compat.published import all_published, equal_to_published
from wsolkern.compat.util import t2n
from wsolkern.files import write_whole
from wsolkern.normalization import Normalization
from wsolkern.ops.inputs import on_host, threshold_grid

__all__ = ["BoxEvaluator", "CAMComputer", "MaskEvaluator", "configure_metadata", "normalize_scoremap", "t2n"]


@equal_to_published
def normalize_scoremap(cam: np.ndarray) -> np.ndarray:
    """Min-max normalization of one map, float64 [H, W] in [0, 1]; zeros if it is constant or holds a NaN.

    Computed in float64; ``cam`` itself is left as it is.
    """
    return ops.normalize(cam, "minmax")


class CAMComputer:
    """Computes the CAMs of a loader's images, saves their score maps and evaluates them.

    Args:
        model: Called as ``model(images, targets, return_cam=True)``, gives CAMs [N, h, w]; put into evaluation mode.
        loader: Gives (images [N, C, H, W], targets, image ids). Images go to the model's device.
        metadata_root: The split's folder of metadata, such as ``metadata/CUB/test``.
        mask_root: Folder that mask paths start from.
        iou_threshold_list: IoU thresholds in percent, in [1, 100], each once.
        dataset_name: "CUB", "ILSVRC", "OpenImages" or any other name.
        split: Its name; score maps of "val" and "test" are saved.
        multi_contour_eval: All contours instead of the largest one.
        cam_curve_interval: Step between thresholds, 0.00001 at least.
        log_folder: Score maps are saved as ``<log_folder>/scoremaps/<image id>.npy``, each whole or not at all, and
            none outside of that folder; None saves none.
        norm_method: "minmax", "max", "pas" (at 0.9) or "ivr".
        percentile: What "ivr" subtracts, a fraction in [0, 1).
        allow_missing_ignore: Ignore nothing where an ignore mask that is named is not there, and warn of it.

    Raises:
        DatasetError: The metadata have something wrong with them.
        ValueError: No such ``norm_method``, or a percentile outside [0, 1).
    """

    _home: dict = globals()  # where names are looked up: of the project's module in the class that install() makes

    def __init__(
        self,
        model,
        loader: Iterable,
        metadata_root: str,
        mask_root: str,
        iou_threshold_list: list[int],
        dataset_name: str,
        split: str,
        multi_contour_eval: bool,
        cam_curve_interval: float = 0.001,
        log_folder: str | None = None,
        norm_method: str = "minmax",
        percentile: float = 0.6,
        *,
        allow_missing_ignore: bool = False,
    ):
        self.model = model
        self.model.eval()
        self.loader = loader
        self.split = split
        self.log_folder = log_folder
        self.norm_method = norm_method
        self.percentile = percentile
        self._normalization()
        metadata = configure_metadata(metadata_root)
        self.evaluator = make_evaluator(
            self._home,
            allow_missing_ignore,
            metadata=metadata,
            dataset_name=dataset_name,
            split=split,
            cam_threshold_list=list(threshold_grid(cam_curve_interval, "cam_curve_interval")),
            iou_threshold_list=iou_threshold_list,
            mask_root=mask_root,
            multi_contour_eval=multi_contour_eval,
        )

    def compute_and_evaluate_cams(self):
        """One pass over the loader.

        Raises:
            ValueError: An id that is no path below the log folder; a map that is none.
            KeyError: An id that is not in the metadata.
            OSError: A score map cannot be saved.

        Returns:
            What the evaluator's ``compute`` returns: percent for each IoU threshold, or PxAP.
        """
        if not all_published(self._home, "t2n") and (as_published := self._original("compute_and_evaluate_cams")):
            return as_published()
        parameter = next(self.model.parameters(), None)
        for images, targets, image_ids in self.loader:
            if parameter is not None:
                images = images.to(parameter.device)
            cams = self.model(images, targets, return_cam=True).detach()
            if normalize := self._own_normalization():
                scoremaps = np.stack([normalize(each) for each in ops.resize(t2n(cams), images.shape[2:])])
            else:
                scoremaps = ops.normalize(cams, self._normalization(), tuple(images.shape[2:]))
                scoremaps = scoremaps if scoremaps.is_cuda else t2n(scoremaps)
            if self.log_folder is not None and self.split in ("val", "test"):
                check_image_ids(image_ids)
                for scoremap, image_id in zip(scoremaps, image_ids, strict=True):
                    path = Path(self.log_folder, "scoremaps", f"{image_id}.npy")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = io.BytesIO()
                    np.save(file, on_host(scoremap))
                    write_whole(path, file.getvalue(), one_of_many=True)
            accumulate_all(self.evaluator, scoremaps, image_ids)
        return self.evaluator.compute()

    def _own_normalization(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """What a subclass or the project's module has in the place of the published normalization."""
        if getattr(self.normalize_scoremap, "__func__", None) is not CAMComputer.normalize_scoremap:
            return self.normalize_scoremap
        if self.norm_method == "minmax" and not all_published(self._home, "normalize_scoremap"):
            return self._home["normalize_scoremap"]
        return None

    def _original(self, name: str) -> Callable | None:
        """The published method of the project's own class."""
        return getattr(super(), name, None)

    def normalize_scoremap(self, cam: np.ndarray) -> np.ndarray:
        """One map under ``norm_method``, float64 [H, W] in [0, 1]; zeros where the formula comes to no number."""
        return ops.normalize(cam, self._normalization())

    def _normalization(self) -> Normalization:
        settings = {"minmax": {}, "max": {}, "pas": {"pas": 0.9}, "ivr": {"ivr": self.percentile}}
        if self.norm_method not in settings:
            raise ValueError(f"norm_method: expected one of {', '.join(settings)}, found {self.norm_method!r}")
        return Normalization(self.norm_method, **settings[self.norm_method])
