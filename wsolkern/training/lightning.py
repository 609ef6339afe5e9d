"""Lightning's training, evaluated every epoch on train-fullsup, so that its ModelCheckpoint keeps the best network.

In: a split with boxes or masks, the folder of its images. Out: figures in percent, logged after each epoch.
Source: Choe et al., arXiv 2007.04178, section 4.1 (models are chosen on train-fullsup); the interface: Lightning.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from wsolkern import defaults
from wsolkern.cams import Ranks, cam_model
from wsolkern.datasets import ImageFolder, Metadata, Preprocessing, load_metadata
from wsolkern.errors import ArgumentError
from wsolkern.metrics import Evaluator, Metric, Result
from wsolkern.normalization import Normalization
from wsolkern.studies.counting import evaluator_for
from wsolkern.training.validation import evaluate_on, first_of

__all__ = ["LocalizationCallback"]


class LocalizationCallback(Callback):
    """Makes the CAMs of a split's images after each epoch, evaluates them and logs what they are worth.

    It logs ``MaxBoxAccV2 minmax`` and so on, a figure for each normalization (``PxAP minmax`` where the split has
    masks), and ``fullsup_accuracy``, the images whose class is right; all in percent, the same in all processes. So
    ``ModelCheckpoint(monitor="MaxBoxAccV2 minmax", mode="max")`` keeps the best checkpoint. The split's images are read
    as the published evaluation reads them, and shared out to the processes; each is evaluated once.

    Args:
        split: train-fullsup, or its metadata folder; with classes.
        images: Folder that image ids are paths below.
        network: Path of the submodule that takes images and gives logits, such as "model"; "" is the LightningModule.
        normalizations: What to normalize with, strings such as "ivr:0.45".
        mask_root: Folder that the split's mask paths start from; for masks only.
        size: Height and width of the images, and of the evaluation, in pixels.
        every_n_epochs: Epochs from one evaluation to the next.
        num_readers: Threads that read images; see :class:`wsolkern.datasets.ImageFolder`.

    Raises:
        DatasetError: The split's files do not hold together.
        ValueError: An argument is not as above. When training begins: the network has no CAMs, or no image can be read.
    """

    def __init__(
        self,
        split: "Metadata | str | os.PathLike[str]",
        images: "str | os.PathLike[str]",
        *,
        network: str = "",
        normalizations: "Iterable[str | Normalization] | str" = defaults.NORMALIZATIONS,
        mask_root: "str | os.PathLike[str] | None" = None,
        size: tuple[int, int] = defaults.SIZE,
        every_n_epochs: int = 1,
        num_readers: int | None = None,
    ):
        if not isinstance(every_n_epochs, int) or every_n_epochs < 1:
            raise ArgumentError("every_n_epochs", f"expected an integer, at least 1, found {every_n_epochs!r}")
        self.split = split if isinstance(split, Metadata) else load_metadata(split)
        unlabelled = [each for each in self.split.image_ids if each not in self.split.class_labels]
        if unlabelled:
            raise ArgumentError("split", f"expected a class for each image, found none for {unlabelled[0]}")
        self.network, self.size, self.every_n_epochs = network, size, every_n_epochs
        self._empty = evaluator_for(self.split, normalizations, mask_root=mask_root, size=size)
        self._images = ImageFolder(Path(images), self.split.image_ids, Preprocessing(size), num_readers=num_readers)
        self.metric = Metric.of(self.split.kind)
        self.result: Result | None = None
        """Of the last evaluation: all figures, best thresholds, curves."""
        self.problems: dict[str, str] = {}
        """Image id -> why it was left out of the last evaluation, in this process."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the network's CAMs, and one image, before the first epoch."""
        with self._cams(pl_module):
            pass
        for batch in self._images.windows([each] for each in self.split.image_ids):
            if batch.readable[0]:
                return
        raise ValueError(f"images: expected images of {self.split.folder}; {first_of(self._images.problems)}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluates and logs."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        evaluator = Evaluator.of(self._empty.protocol, self._empty.truth)
        ranks = Ranks(trainer.global_rank, trainer.world_size)
        with self._cams(pl_module) as cams:
            found = evaluate_on(cams, self._images, self.split, evaluator, pl_module.device, ranks)
        self.result, self.problems = found.result, found.problems
        self.log("fullsup_accuracy", torch.tensor(found.accuracy, dtype=torch.float64))
        for row in found.result:
            figure = torch.tensor(self.metric.figure(row), dtype=torch.float64)
            self.log(f"{self.metric} {row.name}", figure, prog_bar=row is found.result.rows[0])

    @contextmanager
    def _cams(self, module: LightningModule) -> Iterator[Any]:
        """What makes the network's CAMs; afterwards all its parts are in training or evaluation as they were before."""
        try:
            network = module.get_submodule(self.network)
        except AttributeError as error:
            raise ArgumentError("network", f"expected a submodule of {type(module).__name__}: {error}") from error
        modes = [(each, each.training) for each in network.modules()]
        try:
            yield cam_model(network, self.size)
        finally:
            for each, training in modes:
                each.training = training
