"""A trained network as a source of CAMs: what a run's recipe says about the model, its weights and its images.

In: the folder of a run. Out: a ModelSource.
Source: none.
"""

import os
from pathlib import Path

from wsolkern.errors import PathError
from wsolkern.models.sources import ModelSource
from wsolkern.training.checkpoints import BEST, RECIPE
from wsolkern.training.recipe import Recipe

_NAMES = {"cam": "CAM", "has": "HaS", "acol": "ACoL", "spg": "SPG", "adl": "ADL", "cutmix": "CutMix"}


def is_run(name: str) -> bool:
    """Whether a name is that of a folder, and of no function."""
    return ":" not in name and Path(name).is_dir() or (Path(name) / RECIPE).is_file()


def trained(run: str | os.PathLike[str]) -> ModelSource:
    """What ``wsolkern train`` has made in a folder, for :func:`wsolkern.studies.extract`.

    Model and arguments are those of the recipe, weights the best checkpoint's, and images are resized to crop_size, as
    those of val were. The precision of training is not taken over.

    Raises:
        PathError: The folder has no recipe of a run, or no best checkpoint (there is one after the first epoch).
        ValueError: The recipe is damaged; the message names file and setting.
    """
    run = Path(run)
    path = run / RECIPE
    if not path.is_file():
        raise PathError(run, f"expected the folder of a run of wsolkern train, found no {RECIPE} in it")
    recipe = Recipe.read(path, {})
    if not recipe.num_classes:
        raise PathError(path, "num_classes: expected the number of classes, which a run's recipe has, found 0")
    if not (run / BEST).is_file():
        raise PathError(run, f"expected {BEST}, which is there after the first epoch's evaluation, found none")
    model, arguments = recipe.maker()
    side = recipe.crop_size
    known = {"size": (side, side)}
    return ModelSource(model, arguments, run / BEST, known, method=_NAMES[recipe.method], made_by=path)
