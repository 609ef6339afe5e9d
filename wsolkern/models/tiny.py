"""A small network for small images, for every method: a whole run takes minutes on a laptop.

In: images [N, 3, H, W]. Out: see heads.py; the last features are H/8 or, with the large feature map, H/4 a side.
Source: ours; the heads are those of the published networks (clovaai/wsolevaluation).
"""

import torch
from torch import nn

from wsolkern.methods.adl import ADL
from wsolkern.models.heads import AcolNetwork, CamNetwork, SpgNetwork, initialize

_WIDTHS = (16, 32, 64, 64)  # channels of the blocks


def _block(channels: int, filters: int, stride: int = 1) -> list[nn.Module]:
    """A convolution with batch normalization."""
    convolution = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
    return [convolution, nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]


def _first_blocks(large_feature_map: bool) -> list[nn.Module]:
    strides = 2, 2, 1 if large_feature_map else 2, 1
    sizes = zip((3, *_WIDTHS), _WIDTHS, strides, strict=False)
    return [layer for channels, filters, stride in sizes for layer in _block(channels, filters, stride)]


class TinyCam(CamNetwork):
    """CAM, and ADL with its layers in front of and behind the last block."""

    backbone, classifying_layer, classifier_layers = "tiny", "fc", ("conv5.", "fc.")

    def __init__(self, num_classes, large_feature_map, tap_threshold, adl_drop_rate=None, adl_threshold=None):
        super().__init__(num_classes)
        self.tap_threshold = tap_threshold

        def drop():
            return [] if adl_drop_rate is None else [ADL(adl_drop_rate, adl_threshold)]

        self.features = nn.Sequential(*_first_blocks(large_feature_map), *drop())
        self.conv5 = nn.Sequential(*_block(_WIDTHS[-1], 128), *drop())
        self.fc = nn.Linear(128, num_classes)
        initialize(self, "he")

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Features in front of the pooling, float [N, 128, h, w]."""
        return self.conv5(self.features(images))


class TinyAcol(AcolNetwork):
    """ACoL, each branch with one convolution before the classes'."""

    backbone, classifier_layers = "tiny", ("classifier_",)

    def __init__(self, num_classes, large_feature_map, acol_threshold):
        super().__init__(num_classes)
        self.acol_threshold = acol_threshold
        self.features = nn.Sequential(*_first_blocks(large_feature_map))
        for name in ("classifier_A", "classifier_B"):
            layers = *_block(_WIDTHS[-1], 128), nn.Conv2d(128, num_classes, 1)
            setattr(self, name, nn.Sequential(*layers))
        initialize(self, "he")

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Features in front of both branches, float [N, 64, h, w]."""
        return self.features(images)


class TinySpg(SpgNetwork):
    """SPG; B1 and B2 see the fourth and fifth block."""

    backbone, classifying_layer, classifier_layers = "tiny", "SPG_A4", ("SPG_",)

    def __init__(self, num_classes, large_feature_map):
        super().__init__(num_classes)
        width = _WIDTHS[-1]
        self.features = nn.Sequential(*_first_blocks(large_feature_map))
        self.SPG_A2 = nn.Sequential(*_block(width, 128))
        self.SPG_A4 = nn.Conv2d(128, num_classes, 1)
        self.SPG_B_1a = nn.Sequential(*_block(width, 32))
        self.SPG_B_2a = nn.Sequential(*_block(128, 32))
        self.SPG_B_shared = nn.Conv2d(32, 1, 1)
        self.SPG_C = nn.Sequential(*_block(128, 32), nn.Conv2d(32, 1, 1))
        initialize(self, "he")

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features in front of B1, and twice those of B2 and the classes."""
        first = self.features(images)
        second = self.SPG_A2(first)
        return first, second, second


NETWORKS = {"cam": TinyCam, "adl": TinyCam, "acol": TinyAcol, "spg": TinySpg}
