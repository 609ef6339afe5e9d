"""What is random about an epoch's images: their order, their crops, which are mirrored; and the seeds of all else.

In: a seed, an epoch, an image's or a batch's number. Out: an order, cropped images, a seed for torch.
Source: clovaai/wsolevaluation (MIT), data_loaders.py: resized, a random crop, mirrored half the time.
"""

from collections.abc import Sequence

import numpy as np

_ORDER, _CROP, _METHOD = range(3)  # what is drawn


def order(seed: int, epoch: int, num_images: int) -> np.ndarray:
    """The order in which an epoch sees the images: places in their list, int64 [num_images]."""
    return np.random.default_rng((seed, epoch, _ORDER)).permutation(num_images)


def crop_and_flip(
    images: np.ndarray, places: Sequence[int], size: int, flip_rate: float, *, seed: int, epoch: int
) -> np.ndarray:
    """A random square of each image, mirrored or not.

    Args:
        images: float32 [N, C, H, W].
        places: The images' places in the list of all; what is drawn depends on them, not on the batch.
        size: Side of the squares in pixels, at most H and W.
        flip_rate: Probability of mirroring.
        seed, epoch: What else it depends on.

    Returns:
        float32 [N, C, size, size].
    """
    cropped = np.empty((*images.shape[:2], size, size), images.dtype)
    for image, place, target in zip(images, places, cropped, strict=True):
        random = np.random.default_rng((seed, epoch, _CROP, int(place)))
        y, x = (int(random.integers(length - size, endpoint=True)) for length in image.shape[1:])
        step = -1 if random.random() < flip_rate else 1
        target[...] = image[:, y : y + size, x : x + size][:, :, ::step]
    return cropped


def method_seed(seed: int, epoch: int, batch: int, shard: int) -> int:
    """What torch draws hiding, mixing and dropping of one shard of a batch from."""
    return int(np.random.SeedSequence((seed, epoch, _METHOD, batch, shard)).generate_state(1, np.uint64)[0] >> 1)
