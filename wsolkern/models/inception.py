"""InceptionV3 up to Mixed_6e with a stride of 16 or 8 and two more convolutions, for every method.

In: images [N, 3, H, W] of at least 75 pixels a side. Out: see heads.py; CAMs are about H/16 or H/8 a side.
Source: Szegedy et al., arXiv 1512.00567, table 1; changes: clovaai/wsolevaluation (MIT), wsol/inception.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from wsolkern.methods.adl import ADL
from wsolkern.models.heads import AcolNetwork, CamNetwork, Network, SpgNetwork, convolution, initialize


class NormalizedConv(nn.Module):
    """Convolution, batch normalization, ReLU."""

    def __init__(self, channels: int, filters: int, size, stride: int = 1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(filters, eps=0.001)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Float [N, channels, h, w] to float [N, filters, h', w']."""
        return F.relu(self.bn(self.conv(features)), inplace=True)


class Mixed(nn.Module):
    """Branches side by side, their outputs stacked; each is a chain of convolutions named in order.

    Args:
        branches: Per branch the names and arguments of its convolutions.
        pool: "average" before the last branch (which has one convolution), or "max" as a last branch of its own.
    """

    def __init__(self, branches: list[list[tuple]], pool: str):
        super().__init__()
        self._chains = [[name for name, *_ in branch] for branch in branches]
        self._pool = pool
        for branch in branches:
            for name, *arguments in branch:
                setattr(self, name, NormalizedConv(*arguments))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Float [N, C, h, w] to float [N, C', h, w]."""
        inputs = [features] * len(self._chains)
        if self._pool == "average":
            inputs[-1] = F.avg_pool2d(features, 3, 1, 1)
        outputs = []
        for chain, output in zip(self._chains, inputs, strict=True):
            for name in chain:
                output = getattr(self, name)(output)
            outputs.append(output)
        if self._pool == "max":
            outputs.append(F.max_pool2d(features, 3, 1, 1))
        return torch.cat(outputs, 1)


def _mixed_5(channels: int, pooled: int) -> Mixed:
    doubled = [("branch3x3dbl_1", channels, 64, 1), ("branch3x3dbl_2", 64, 96, 3, 1, 1)]
    branches = [
        [("branch1x1", channels, 64, 1)],
        [("branch5x5_1", channels, 48, 1), ("branch5x5_2", 48, 64, 5, 1, 2)],
        [*doubled, ("branch3x3dbl_3", 96, 96, 3, 1, 1)],
        [("branch_pool", channels, pooled, 1)],
    ]
    return Mixed(branches, "average")


def _mixed_6a() -> Mixed:
    doubled = [("branch3x3dbl_1", 288, 64, 1), ("branch3x3dbl_2", 64, 96, 3, 1, 1), ("branch3x3dbl_3", 96, 96, 3, 1, 1)]
    return Mixed([[("branch3x3", 288, 384, 3, 1, 1)], doubled], "max")


def _mixed_6(width: int) -> Mixed:
    across, down = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    single = [
        ("branch7x7_1", 768, width, 1),
        ("branch7x7_2", width, width, *across),
        ("branch7x7_3", width, 192, *down),
    ]
    doubled = [
        ("branch7x7dbl_1", 768, width, 1),
        ("branch7x7dbl_2", width, width, *down),
        ("branch7x7dbl_3", width, width, *across),
        ("branch7x7dbl_4", width, width, *down),
        ("branch7x7dbl_5", width, 192, *across),
    ]
    return Mixed([[("branch1x1", 768, 192, 1)], single, doubled, [("branch_pool", 768, 192, 1)]], "average")


class _InceptionV3(Network):
    backbone = "inception_v3"

    def __init__(self, num_classes: int, large_feature_map: bool):
        super().__init__(num_classes)
        self.large_feature_map = large_feature_map
        self.Conv2d_1a_3x3 = NormalizedConv(3, 32, 3, 2, 1)
        self.Conv2d_2a_3x3 = NormalizedConv(32, 32, 3)
        self.Conv2d_2b_3x3 = NormalizedConv(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = NormalizedConv(64, 80, 1)
        self.Conv2d_4a_3x3 = NormalizedConv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _mixed_5(192, 32), _mixed_5(256, 64), _mixed_5(288, 64)
        self.Mixed_6a = _mixed_6a()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(_mixed_6, (128, 160, 160, 192))

    def _make_classifier(self):
        self.SPG_A3_1b = nn.Sequential(*convolution(768, 1024))
        self.SPG_A3_2b = nn.Sequential(*convolution(1024, 1024))
        self.SPG_A4 = nn.Conv2d(1024, self.num_classes, 1)

    def _mixed_5d(self, images: torch.Tensor) -> torch.Tensor:
        features = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        features = F.max_pool2d(features, 3, 2, 1, ceil_mode=True)
        features = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(features))
        features = F.max_pool2d(features, 3, 2, 1, ceil_mode=True)
        return self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(features)))

    def _pool(self, features: torch.Tensor) -> torch.Tensor:
        return features if self.large_feature_map else F.max_pool2d(features, 3, 2, ceil_mode=True)

    def _mixed_6d(self, features: torch.Tensor) -> torch.Tensor:
        return self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(features))))

    def _classifier_features(self, features: torch.Tensor) -> torch.Tensor:
        for layer in (self.SPG_A3_1b, self.SPG_A3_2b):
            features = layer(F.dropout(features, 0.5, self.training))
        return F.dropout(features, 0.5, self.training)

    def torchvision_names(self) -> dict[str, str]:
        """Names of our parameters that torchvision's InceptionV3 has, and its names for them: the same."""
        return {name: name for name in self.state_dict() if name.startswith(("Conv2d_", "Mixed_"))}


class InceptionV3Cam(_InceptionV3, CamNetwork):
    """CAM: dropout around the two last convolutions while training."""

    classifying_layer = "SPG_A4"

    def __init__(self, num_classes, large_feature_map, tap_threshold):
        super().__init__(num_classes, large_feature_map)
        self.tap_threshold = tap_threshold
        self._make_classifier()
        initialize(self, "xavier")

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Features in front of the classes, float [N, 1024, h, w]."""
        return self._classifier_features(self.Mixed_6e(self._mixed_6d(self._pool(self._mixed_5d(images)))))


class InceptionV3Adl(_InceptionV3, CamNetwork):
    """ADL: its layers behind Mixed_5d, Mixed_6e and the last convolution, and no dropout."""

    classifying_layer = "SPG_A4"

    def __init__(self, num_classes, large_feature_map, tap_threshold, adl_drop_rate, adl_threshold):
        super().__init__(num_classes, large_feature_map)
        self.tap_threshold = tap_threshold
        self._make_classifier()
        self.ADL = ADL(adl_drop_rate, adl_threshold)
        initialize(self, "xavier")

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Features in front of the classes, float [N, 1024, h, w]."""
        features = self._pool(self.ADL(self._mixed_5d(images)))
        features = self.ADL(self.Mixed_6e(self._mixed_6d(features)))
        return self.ADL(self.SPG_A3_2b(self.SPG_A3_1b(features)))


class InceptionV3Acol(_InceptionV3, AcolNetwork):
    """ACoL."""

    def __init__(self, num_classes, large_feature_map, acol_threshold):
        super().__init__(num_classes, large_feature_map)
        self.acol_threshold = acol_threshold
        self._make_branches(768, num_classes)
        initialize(self, "xavier")

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Features in front of both branches, float [N, 768, h, w]."""
        return self.Mixed_6e(self._mixed_6d(self._pool(self._mixed_5d(images))))


class InceptionV3Spg(_InceptionV3, SpgNetwork):
    """SPG; B1 sees Mixed_5d, B2 Mixed_6d."""

    classifying_layer = "SPG_A4"

    def __init__(self, num_classes, large_feature_map):
        super().__init__(num_classes, large_feature_map)
        self._make_classifier()
        self._make_guided(288, 768, 512, 1024)
        initialize(self, "xavier")

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features in front of B1, B2 and the classes, float [N, 288, h, w], [N, 768, h, w] and [N, 1024, h, w]."""
        first = self._pool(self._mixed_5d(images))
        second = self._mixed_6d(first)
        return first, second, self._classifier_features(self.Mixed_6e(second))


NETWORKS = {"cam": InceptionV3Cam, "adl": InceptionV3Adl, "acol": InceptionV3Acol, "spg": InceptionV3Spg}
