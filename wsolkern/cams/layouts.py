"""How a feature map lies in memory: channels first, channels last, or as tokens in rows of a grid.

In: a tensor of a forward pass. Out: the layouts it may have; the same tensor as a map [N, C, h, w].
Source: none. Tokens are taken for pixels in rows; :func:`lies_in_rows` tries it on images that differ in one half.
"""

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

_MOST_PREFIX = 16  # tokens in front of the patches: of classes, registers
_LEAST_RATIO = 1.25  # of changes in the half that changed and in the other; those of other orders are about the same
_LARGEST_DRAW = 1.5  # power of 10 of the random numbers' largest scale: beyond where activations bend
_PIXEL_AXES = {"NCHW": (2, 3), "NHWC": (1, 2), "NLC": (1,), "NCL": (2,)}


class Layout(NamedTuple):
    """What the axes of a feature map are."""

    axes: str = "NCHW"
    """Also NHWC; NLC and NCL for L tokens."""
    grid: tuple[int, int] | None = None
    """Height and width of the tokens' grid; None where there are no tokens."""
    num_prefix: int = 0
    """Tokens in front of the grid's, which are not pooled."""

    def as_map(self, value: "torch.Tensor") -> "torch.Tensor":
        """The tensor as [N, C, h, w], a view."""
        if self.axes == "NCHW":
            return value
        if self.axes == "NHWC":
            return value.permute(0, 3, 1, 2)
        tokens = value.transpose(1, 2) if self.axes == "NLC" else value
        return tokens[:, :, self.num_prefix :].unflatten(2, self.grid)

    def fits(self, value: "torch.Tensor") -> bool:
        """Whether a tensor has such axes."""
        if self.grid is None:
            return value.ndim == 4
        num_tokens = self.num_prefix + self.grid[0] * self.grid[1]
        return value.ndim == 3 and value.shape[_PIXEL_AXES[self.axes][0]] == num_tokens

    def drawn(self, like: "torch.Tensor", random: "torch.Generator") -> "torch.Tensor":
        """Random numbers of a tensor's shape, of another scale for each image, each with an average far from 0."""
        import torch

        scales = torch.logspace(0, _LARGEST_DRAW, len(like)).reshape(-1, *[1] * (like.ndim - 1))
        one = like
        for axis in self.pixel_axes:
            one = one.narrow(axis, 0, 1)
        return draw(like, random, scales) + draw(one, random, scales)

    @property
    def pixel_axes(self) -> tuple[int, ...]:
        """The axes that are averaged."""
        return _PIXEL_AXES[self.axes]


CHANNELS_FIRST = Layout()


def draw(like: "torch.Tensor", random: "torch.Generator", scale: "float | torch.Tensor") -> "torch.Tensor":
    """Random numbers of a tensor's shape, type and device, made on the CPU."""
    import torch

    return (torch.randn(like.shape, generator=random) * scale).to(like.device, like.dtype)


def grids_of(maps: Collection["torch.Tensor"]) -> list[tuple[int, int]]:
    """Height and width of the maps [N, C, h, w] of a forward pass, and of those merged by halves, each once."""
    found: dict[tuple[int, int], None] = {}
    for each in maps:
        height, width = each.shape[2:]
        while height * width > 1:
            found[height, width] = None
            height, width = (height + 1) // 2, (width + 1) // 2
    return list(found)


def layouts_of(value: "torch.Tensor", grids: list[tuple[int, int]]) -> Iterator[Layout]:
    """The layouts that a tensor [N, C, h, w], [N, h, w, C], [N, L, C] or [N, C, L] of more than one pixel may have."""
    if value.ndim == 4:
        for axes in ("NCHW", "NHWC"):
            first, second = _PIXEL_AXES[axes]
            if value.shape[first] * value.shape[second] > 1:
                yield Layout(axes)
        return
    for axes in ("NLC", "NCL"):
        rest = [(value.shape[_PIXEL_AXES[axes][0]] - height * width, (height, width)) for height, width in grids]
        for num_prefix, grid in sorted(each for each in rest if 0 <= each[0] <= _MOST_PREFIX):
            yield Layout(axes, grid, num_prefix)


def lies_in_rows(make: Callable[["torch.Tensor"], "torch.Tensor"], images: "torch.Tensor") -> bool:
    """Whether pixels of a map are where they are in the images: another half of an image changes its half the most.

    Args:
        make: Images to their map [N, C, h, w].
        images: float [N, 3, H, W]; the halves of other images of them take each other's place.
    """
    before = make(images)
    for axis in (2, 3):
        half, middle = images.shape[axis] // 2, before.shape[axis] // 2
        if not middle:
            continue
        other = images.clone()
        other.narrow(axis, 0, half).copy_(images.flip(0).narrow(axis, 0, half))
        change = (make(other) - before).abs().mean((0, 1, 5 - axis))
        if not change[:middle].mean() > _LEAST_RATIO * change[-middle:].mean():
            return False
    return True
