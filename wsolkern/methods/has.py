"""HaS (hide and seek): cells of a grid are hidden from each training image at random.

In: normalized images [N, C, H, W], a cell's side, a probability. Out: images with cells at 0, the mean color.
Source: Singh and Lee, arXiv 1704.04232, section 3.
"""

import torch

GRID_SIZE = 4  # pixels a side of a cell; clovaai/wsolevaluation, config.py: has_grid_size
DROP_RATE = 0.5  # clovaai/wsolevaluation, config.py: has_drop_rate


def hide(
    images: torch.Tensor,
    grid_size: int = GRID_SIZE,
    drop_rate: float = DROP_RATE,
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Images of which each grid cell is hidden with a probability, independently.

    Args:
        images: Normalized images (0 is the data set's mean), float [N, C, H, W]; left as they are.
        grid_size: Pixels a side of a cell; cells at the right and lower edge may be smaller.
        drop_rate: Probability that a cell is hidden.
        generator: CPU generator to draw from; torch's own by default.

    Returns:
        float [N, C, H, W].

    Raises:
        ValueError: ``grid_size`` below 1 or ``drop_rate`` outside [0, 1].

    Source: Singh and Lee, arXiv 1704.04232, section 3.
    """
    if grid_size < 1 or not 0 <= drop_rate <= 1:
        raise ValueError(f"HaS: expected grid_size >= 1, drop_rate in [0, 1], found {grid_size}, {drop_rate}")
    height, width = images.shape[2:]
    cells = (len(images), 1, -(-height // grid_size), -(-width // grid_size))
    shown = (torch.rand(cells, generator=generator, device="cpu") >= drop_rate).to(images.device)
    shown = shown.repeat_interleave(grid_size, 2).repeat_interleave(grid_size, 3)
    return images * shown[:, :, :height, :width]
