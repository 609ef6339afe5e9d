"""A run by this process alone, or by all those that torchrun started with it, each on its device.

In: a recipe, data, a folder, the name of a device. Out: what has become of the run, in the first process.
Source: none; the loop is :mod:`wsolkern.training.loop`.
"""

import os
from collections.abc import Callable, Iterable

import torch

from wsolkern.cams import Ranks
from wsolkern.training.data import TrainingData
from wsolkern.training.loop import Outcome, train
from wsolkern.training.recipe import Recipe


def train_together(
    recipe: Recipe,
    data: TrainingData,
    run: str | os.PathLike,
    *,
    device: str = "cpu",
    num_readers: int | None = None,
    checkpoint_batches: int = 0,
    log: Iterable[str] = (),
    tensorboard: bool = False,
    on_remark: Callable[[str], object] = lambda text: None,
    on_batch: Callable[[int, int, int], None] = lambda epoch, done, total: None,
    on_epoch: Callable[[dict], None] = lambda row: None,
) -> Outcome | None:
    """Trains a network, or goes on where the run in a folder ends, with the processes that torchrun started.

    Args:
        recipe: The settings; ``recipe.shards`` is a multiple of the number of processes.
        data: The images.
        run: Folder of the run: none yet, an empty one, or this recipe's.
        device: "cpu" or "cuda"; each process takes a GPU of its own.
        num_readers, checkpoint_batches, log, tensorboard: As for :func:`wsolkern.training.train`.
        on_remark: Told what about the data is odd, by the first process.
        on_batch, on_epoch: As there, by the first process.

    Returns:
        What has become of the run; None but in the first process.

    Raises:
        ArgumentError: There is no such device.
        DeviceUnavailable: It is a GPU, and none can be used.
        KeyboardInterrupt: SIGINT or SIGTERM came; in the first process the message says what to go on from.
        ValueError, ImportError: As :func:`wsolkern.training.train`.
    """
    with Ranks.joined_on(device) as (ranks, place):
        if place.type == "cuda":
            torch.cuda.set_device(place)
        is_first = ranks.rank == 0
        for remark in data.remarks if is_first else ():
            on_remark(remark)
        try:
            outcome = train(
                recipe,
                data,
                run,
                ranks=ranks,
                device=place,
                num_readers=num_readers,
                checkpoint_batches=checkpoint_batches,
                log=log,
                tensorboard=tensorboard,
                on_batch=on_batch if is_first else None,
                on_epoch=on_epoch if is_first else None,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(*([f"from the last checkpoint in {os.fspath(run)}"] if is_first else [])) from None
    return outcome if is_first else None
