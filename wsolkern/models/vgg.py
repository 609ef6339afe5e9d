"""VGG16 without its fully connected layers, for every method.

In: images [N, 3, H, W]. Out: see heads.py; the last features are H/16 or, with the large feature map, H/8 a side.
Source: Simonyan and Zisserman, arXiv 1409.1556, configuration D; changes: clovaai/wsolevaluation (MIT), wsol/vgg.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from wsolkern.methods.adl import ADL
from wsolkern.models.heads import AcolNetwork, CamNetwork, Network, SpgNetwork, convolution, initialize

# Where torchvision's `features` has its convolutions.
_TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def _block(channels: int, filters: int, num_convolutions: int) -> list[nn.Module]:
    sizes = [channels, *[filters] * num_convolutions]
    return [layer for pair in zip(sizes, sizes[1:], strict=False) for layer in convolution(*pair)]


def _first_blocks(pool: nn.Module) -> list[nn.Module]:
    return [*_block(3, 64, 2), pool, *_block(64, 128, 2), pool, *_block(128, 256, 3), pool]


class _VGG16(Network):
    backbone = "vgg16"

    def torchvision_names(self) -> dict[str, str]:
        """Names of our parameters that torchvision's VGG16 has, and its names for them."""
        ours = [name for name, module in self.named_modules() if isinstance(module, nn.Conv2d)]
        return {
            f"{name}.{part}": f"features.{index}.{part}"
            for name, index in zip(ours, _TORCHVISION, strict=False)  # those that follow are the method's own
            for part in ("weight", "bias")
        }


class VGG16Cam(_VGG16, CamNetwork):
    """CAM, and ADL with its layers before, within and after the last two blocks."""

    classifying_layer = "fc"

    def __init__(self, num_classes, large_feature_map, tap_threshold, adl_drop_rate=None, adl_threshold=None):
        super().__init__(num_classes)
        self.tap_threshold = tap_threshold

        def drop():
            return [] if adl_drop_rate is None else [ADL(adl_drop_rate, adl_threshold)]

        pool = [] if large_feature_map else [nn.MaxPool2d(2)]
        blocks = *_first_blocks(nn.MaxPool2d(2)), *drop(), *_block(256, 512, 3), *drop(), *pool, *_block(512, 512, 3)
        self.features = nn.Sequential(*blocks, *drop())
        self.conv6 = nn.Conv2d(512, 1024, 3, padding=1)
        self.fc = nn.Linear(1024, num_classes)
        initialize(self, "he")

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Features in front of the pooling, float [N, 1024, h, w]."""
        return F.relu(self.conv6(self.features(images)))


class VGG16Acol(_VGG16, AcolNetwork):
    """ACoL; pooling windows overlap, and there are five of them."""

    def __init__(self, num_classes, large_feature_map, acol_threshold):
        super().__init__(num_classes)
        self.acol_threshold = acol_threshold
        blocks = *_first_blocks(nn.MaxPool2d(3, 2, 1)), *_block(256, 512, 3)
        pool = nn.MaxPool2d(3, 1 if large_feature_map else 2, 1)
        self.features = nn.Sequential(*blocks, pool, *_block(512, 512, 3), nn.MaxPool2d(3, 1, 1))
        self._make_branches(512, num_classes)
        initialize(self, "xavier")

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Smoothed features in front of both branches, float [N, 512, h, w]."""
        return F.avg_pool2d(self.features(images), 3, 1, 1)


class VGG16Spg(_VGG16, SpgNetwork):
    """SPG; B1 sees the fourth block, B2 the fifth."""

    classifying_layer = "SPG_A_4"

    def __init__(self, num_classes, large_feature_map):
        super().__init__(num_classes)
        self.large_feature_map = large_feature_map
        self.features = nn.Sequential(*_first_blocks(nn.MaxPool2d(2)))
        self.SPG_A_1 = nn.Sequential(*_block(256, 512, 3))
        self.SPG_A_2 = nn.Sequential(*_block(512, 512, 3))
        self.SPG_A_3 = nn.Sequential(*_block(512, 512, 2))
        self.SPG_A_4 = nn.Conv2d(512, num_classes, 1)
        self._make_guided(512, 512, 512, 512)
        initialize(self, "xavier")

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features in front of B1, of B2 and of the classes, float [N, 512, h, w] each."""
        first = self.SPG_A_1(self.features(images))
        if not self.large_feature_map:
            first = F.max_pool2d(first, 3, 2, 1)
        second = self.SPG_A_2(first)
        return first, second, self.SPG_A_3(second)


NETWORKS = {"cam": VGG16Cam, "adl": VGG16Cam, "acol": VGG16Acol, "spg": VGG16Spg}
