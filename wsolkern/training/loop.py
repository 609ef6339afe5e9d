"""The loop: epochs of batches of shards, an evaluation after each, and checkpoints to go on from.

In: a recipe, data, a folder. Out: a trained network's checkpoints and a log, the same however often it was killed.
Source: clovaai/wsolevaluation (MIT), main.py.
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wsolkern.cams import Ranks, cam_model
from wsolkern.datasets import ImageFolder, Preprocessing
from wsolkern.datasets.images import ImageBatch
from wsolkern.interrupts import interrupts_raise, interrupts_wait
from wsolkern.metrics import Evaluator, Metric
from wsolkern.ops import backends
from wsolkern.studies.counting import evaluator_for
from wsolkern.training import augmentation, checkpoints, loggers, optimization
from wsolkern.training.data import TrainingData
from wsolkern.training.recipe import NETWORK_ADVICE, Recipe
from wsolkern.training.shards import ShardSum, Tally
from wsolkern.training.validation import evaluate_on, first_of


@dataclass(frozen=True)
class Outcome:
    """What has become of a run."""

    log: list[dict]
    """One row an epoch: epoch, lr, train_loss, train_accuracy, val_accuracy, a figure for each normalization, seconds;
    accuracies and figures in percent."""
    best: dict
    """The row of the best checkpoint."""
    column: str
    """The column that decides which one is best."""
    problems: dict[str, str]
    """Image id -> why it was left out."""
    was_finished: bool
    """Nothing was left to do."""

    def to_dict(self) -> dict:
        """All of it as JSON can hold it."""
        return dict(vars(self))


def train(
    recipe: Recipe,
    data: TrainingData,
    run: str | os.PathLike,
    *,
    ranks: Ranks = Ranks(),  # noqa: B008 (it cannot be changed)
    device: str | torch.device = "cpu",
    num_readers: int | None = None,
    checkpoint_batches: int = 0,
    log: Iterable[str] = (),
    tensorboard: bool = False,
    on_batch: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[dict], None] | None = None,
) -> Outcome:
    """Trains a network, or goes on where the run in a folder ends.

    On a CPU the weights are the same bits for a recipe, data and a number of threads (WSOLKERN_NUM_THREADS), whether
    the run was killed or not, with any number of readers, and with any number of processes that have as many threads
    each. Batch normalization sees a shard at a time; its running statistics are means over a batch's shards.

    Args:
        recipe: The settings.
        data: The images.
        run: Folder of the run: none yet, an empty one, or this recipe's.
        ranks: The processes; ``recipe.shards`` is a multiple of their number.
        device: Where the network is; the one of this process.
        num_readers: Threads that read images; see :class:`wsolkern.datasets.ImageFolder`.
        checkpoint_batches: Batches between two checkpoints; 0: one before and one after each evaluation only.
        log: Where else the log goes, of "tensorboard" (events in ``run/tensorboard``) and "wandb" (a run of Weights &
            Biases, whose files are in ``run/wandb``): every number of a row, and the best normalization on val.
        tensorboard: The same as "tensorboard" in ``log``.
        on_batch: Called with the epoch, the batches of it that are done, and their number in an epoch.
        on_epoch: Called with each new row of the log.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; while it trained, the batch was finished and a checkpoint is written.
        ValueError: Before the first epoch: the folder is another run's, or somebody trains there; a class is out of
            range; no image of a split can be read; the network has no CAMs, or cannot be trained. Later: the loss or a
            logit is no number.
        ArgumentError: There is no such logger, or it refuses to begin.
        ImportError: A logger is not installed.
    """
    logs = loggers.check_loggers([*log, *(["tensorboard"] if tensorboard else [])])
    data.expect_classes(recipe.num_classes or None)
    recipe = recipe.for_data(data.num_classes, data.sha256())
    with interrupts_raise(), _threads(), ExitStack() as stack:
        trainer = _Trainer(recipe, data, Path(run), ranks, torch.device(device), num_readers, checkpoint_batches, stack)
        progress = trainer.progress
        was_finished = progress.epoch == recipe.epochs
        with loggers.writing(logs if ranks.rank == 0 else (), Path(run), progress.log, recipe.to_dict()) as write:
            while progress.epoch < recipe.epochs:
                row = trainer.run_epoch(on_batch)
                write(row)
                if on_epoch is not None:
                    on_epoch(row)
    return Outcome(progress.log, progress.best(trainer.column), trainer.column, progress.problems, was_finished)


class _Trainer:
    """A run in this process."""

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        run: Path,
        ranks: Ranks,
        device: torch.device,
        num_readers: int | None,
        checkpoint_batches: int,
        stack: ExitStack,
    ):
        self.recipe, self.data, self.run, self.ranks, self.device = recipe, data, run, ranks, device
        self.checkpoint_batches = checkpoint_batches
        self.size = (recipe.crop_size, recipe.crop_size)
        whole = Preprocessing((recipe.resize_size, recipe.resize_size))
        train_sizes, val_sizes = (None, None) if data.any_image_size else (data.image_sizes, data.val.image_sizes)
        self.images = ImageFolder(data.root, data.labels, whole, num_readers=num_readers, image_sizes=train_sizes)
        self.val_images = ImageFolder(
            data.root, data.val.image_ids, Preprocessing(self.size), num_readers=num_readers, image_sizes=val_sizes
        )
        self.metric = Metric.of(data.val.kind)
        self.column = f"{self.metric} {self._evaluator().normalizations[0]}"
        self.network = recipe.build().to(device)
        if not any(each.requires_grad for each in self.network.parameters()):
            raise ValueError(f"backbone: {type(self.network).__name__} has no parameter to train")
        cams = cam_model(self.network, self.size)
        self.optimizer = optimization.optimizer_for(self.network, recipe, getattr(cams, "head", None))
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
        self.sums = ShardSum(self.network, ranks, recipe.shards)
        is_new = not (run / checkpoints.RECIPE).exists()
        if is_new:
            self._rehearse(cams)
        stack.enter_context(checkpoints.claimed(run, recipe, ranks))
        self.progress = checkpoints.restore(run, self.network, self.optimizer, self.scaler)
        if not is_new and self.progress.epoch < recipe.epochs:
            self._rehearse(cams)

    def _rehearse(self, cams: Callable) -> None:
        """A step and an evaluation of one image, before hours of them; the network stays as it is.

        Raises:
            ValueError: No image of a split can be used, or the network cannot be trained or evaluated.
        """
        _, pixels = next(_readable(self.images), (None, None))
        if pixels is None:
            raise ValueError(f"{self.data.root}: no image of train could be read; {first_of(self.images.problems)}")
        self._rehearse_step(pixels)
        evaluator, cam, problem = self._evaluator(), None, None
        for image_id, pixels in _readable(self.val_images):
            if cam is None:
                image = torch.from_numpy(pixels)[None].to(self.device)
                classes = torch.tensor([self.data.val.class_labels[image_id]], device=self.device)
                cam = cams(image, classes, [image_id]).cams.float()
            try:
                evaluator.update(cam, (image_id,))
                return
            except ValueError as error:
                problem = problem or str(error)
        problem = problem or first_of(self.val_images.problems)
        raise ValueError(f"{self.data.val.folder}: no image could be evaluated; {problem}")

    def _rehearse_step(self, pixels: np.ndarray) -> None:
        """Forward and backward pass of the smallest shard there is."""
        recipe, network = self.recipe, self.network
        num_images = len(self.images)
        batches = {min(recipe.batch_size, num_images), num_images % recipe.batch_size or recipe.batch_size}
        shards = [len(part) for each in batches for part in np.array_split(range(each), recipe.shards)]
        number = min(filter(None, shards))
        image = pixels[:, : recipe.crop_size, : recipe.crop_size]
        images = torch.from_numpy(np.repeat(image[None], number, 0)).to(self.device)
        labels = torch.arange(number, device=self.device) % self.data.num_classes
        before = [(each, each.clone()) for each in network.buffers()]
        network.train()
        try:
            with self._precision():
                logits, loss = optimization.respond(network, images, labels, recipe)
            if logits.ndim != 2 or len(logits) != number or logits.shape[1] < self.data.num_classes:
                raise ValueError(
                    f"expected logits [{number}, K] of at least {self.data.num_classes} classes, "
                    f"found {list(logits.shape)}"
                )
            loss.backward()
        except KeyError as error:
            raise ValueError(
                f"backbone: {recipe.method} needs {error} in what {type(network).__name__} returns; "
                f"see {NETWORK_ADVICE}"
            ) from error
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"backbone: {type(network).__name__} fails in a step of {recipe.method} with {number} images of "
                f"{recipe.crop_size} x {recipe.crop_size} pixels: {error}"
            ) from error
        finally:
            network.zero_grad()
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)

    def _precision(self) -> AbstractContextManager:
        """Mixed precision, if the recipe says so."""
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.recipe.precision))

    def run_epoch(self, on_batch: Callable[[int, int, int], None] | None) -> dict:
        """What is left of an epoch, its evaluation, its row of the log."""
        started, progress = time.perf_counter(), self.progress
        epoch = progress.epoch + 1
        optimization.set_learning_rates(self.optimizer, self.recipe, epoch)
        self._train(epoch, on_batch)
        seen, loss, correct, _ = progress.tally
        if not seen:
            raise ValueError(f"{self.data.root}: no image of train could be read; {first_of(progress.problems)}")
        row = {
            "epoch": epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss / seen,
            "train_accuracy": 100 * correct / seen,
            **self._evaluate(),
            "seconds": round(time.perf_counter() - started, 3),
        }
        progress.log.append(row)
        progress.epoch, progress.batch, progress.tally = epoch, 0, Tally()
        self._save(best=progress.best(self.column) is row)
        return row

    def _train(self, epoch: int, on_batch: Callable[[int, int, int], None] | None) -> None:
        recipe, progress = self.recipe, self.progress
        order = augmentation.order(recipe.seed, epoch, len(self.images))
        batches = [order[start : start + recipe.batch_size] for start in range(0, len(order), recipe.batch_size)]
        first = self.ranks.rank * self.sums.num_mine
        mine = [
            (batch, shard, np.array_split(batches[batch], recipe.shards)[shard])
            for batch in range(progress.batch, len(batches))
            for shard in range(first, first + self.sums.num_mine)
        ]
        read = self.images.windows([self.images.image_ids[place] for place in places] for _, _, places in mine)
        self.network.train()
        with interrupts_wait() as interrupted:
            for (batch, shard, places), window in zip(mine, read, strict=True):
                if shard == first:
                    self.sums.begin()
                tally = self._backward(window, places, epoch, batch, shard)
                self.sums.add(shard - first, tally._replace(stop=float(interrupted())))
                if shard < first + self.sums.num_mine - 1:
                    continue
                self._step(f"epoch {epoch}, batch {batch + 1}")
                if on_batch is not None:
                    on_batch(epoch, batch + 1, len(batches))
                stop = progress.tally.stop > 0  # on every process, if on one
                if stop or batch + 1 == len(batches) or self._is_due(batch + 1):
                    self._save()
                if stop:
                    raise KeyboardInterrupt

    def _backward(self, window: ImageBatch, places: np.ndarray, epoch: int, batch: int, shard: int) -> Tally:
        """Leaves the gradient of a shard's mean loss in the network."""
        recipe, rows = self.recipe, np.flatnonzero(window.readable)
        if not len(rows):
            return Tally()
        images = augmentation.crop_and_flip(
            window.images[rows],
            places[rows],
            recipe.crop_size,
            recipe.flip_rate,
            seed=recipe.seed,
            epoch=epoch,
        )
        labels = torch.tensor([self.data.labels[window.image_ids[row]] for row in rows], device=self.device)
        torch.manual_seed(augmentation.method_seed(recipe.seed, epoch, batch, shard))
        with self._precision():
            images = torch.from_numpy(images).to(self.device)
            logits, loss = optimization.respond(self.network, images, labels, recipe)
        self.scaler.scale(loss).backward()
        correct = (logits.argmax(1) == labels).sum().item()
        return Tally(len(rows), loss.item() * len(rows), correct)

    def _step(self, where: str) -> None:
        tally = self.sums.finish()
        # In float16 the scaler leaves such batches out, as the published way of mixed precision does.
        if not math.isfinite(tally.loss) and not self.scaler.is_enabled():
            raise ValueError(f"{where}: the loss is {tally.loss}; a smaller lr may help")
        if tally.num_images:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
        self.progress.tally = Tally(*map(sum, zip(self.progress.tally, tally, strict=True)))
        self.progress.batch += 1

    def _is_due(self, num_batches: int) -> bool:
        return self.checkpoint_batches > 0 and num_batches % self.checkpoint_batches == 0

    def _save(self, *, best: bool = False) -> None:
        """Writes a checkpoint; all processes get here at the same batch."""
        progress = self.progress
        for each in self.ranks.gather(self.images.problems | self.val_images.problems):
            progress.problems |= each
        progress.tally = progress.tally._replace(stop=0.0)
        if self.ranks.rank == 0:
            checkpoints.save(self.run, self.network, self.optimizer, self.scaler, progress, best=best)

    def _evaluator(self) -> Evaluator:
        return evaluator_for(self.data.val, self.recipe.normalizations, mask_root=self.data.mask_root, size=self.size)

    def _evaluate(self) -> dict:
        """Classification accuracy and the metric of every normalization on val, in percent, the same on all ranks."""
        cams = cam_model(self.network, self.size)
        found = evaluate_on(cams, self.val_images, self.data.val, self._evaluator(), self.device, self.ranks)
        self.val_images.problems |= found.problems
        return {"val_accuracy": found.accuracy} | {
            f"{self.metric} {row.name}": self.metric.figure(row) for row in found.result
        }


def _readable(images: ImageFolder) -> Iterator[tuple[str, np.ndarray]]:
    """The images that can be read, with their pixels float32 [3, H, W]."""
    for batch in images.windows([image_id] for image_id in images.image_ids):
        if batch.readable[0]:
            yield batch.image_ids[0], batch.images[0]


@contextmanager
def _threads() -> Iterator[None]:
    """As many threads for torch as for all else, and a generator of its own, while the block runs."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(backends.num_threads())
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(num_threads)
