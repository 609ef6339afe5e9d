"""Training the six methods: a recipe, its loop, checkpoints that a killed run goes on from to the same bits.

In: images with classes, a split with boxes or masks, a recipe. Out: checkpoints in the published format, a log.
Source: Choe et al., arXiv 2007.04178, section 5; what is done and its defaults: clovaai/wsolevaluation (MIT).

Everything random is drawn from the seed, the epoch and an image's or a batch's number, so a checkpoint needs no state
of a generator, and neither the number of processes nor that of reading threads changes a run.
"""

from wsolkern.training.data import TrainingData
from wsolkern.training.loop import Outcome, train
from wsolkern.training.recipe import Recipe
from wsolkern.training.together import train_together
from wsolkern.training.trained import is_run, trained

__all__ = ["Outcome", "Recipe", "TrainingData", "is_run", "train", "train_together", "trained"]
