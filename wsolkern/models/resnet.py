"""ResNet50 whose last stage keeps its size, for every method.

In: images [N, 3, H, W]. Out: see heads.py; the last features are H/16 or, with the large feature map, H/8 a side.
Source: He et al., arXiv 1512.03385, table 1; changes: clovaai/wsolevaluation (MIT), wsol/resnet.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from wsolkern.methods.adl import ADL
from wsolkern.models.heads import AcolNetwork, CamNetwork, Network, SpgNetwork, initialize

_NUM_BLOCKS = (3, 4, 6, 3)  # a stage


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut: float [N, channels, h, w] to [N, 4 width, h / stride, w / stride]."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            projection = nn.Conv2d(channels, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Float [N, channels, h, w] to float [N, 4 width, h / stride, w / stride]."""
        shortcut = features if self.downsample is None else self.downsample(features)
        features = F.relu(self.bn1(self.conv1(features)), inplace=True)
        features = F.relu(self.bn2(self.conv2(features)), inplace=True)
        return F.relu(self.bn3(self.conv3(features)) + shortcut, inplace=True)


def _stage(channels: int, width: int, num_blocks: int, stride: int) -> list[nn.Module]:
    return [Bottleneck(channels, width, stride), *(Bottleneck(4 * width, width, 1) for _ in range(1, num_blocks))]


class _ResNet50(Network):
    backbone = "resnet50"

    def _make_stem(self):
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)

    @staticmethod
    def _stages(large_feature_map: bool) -> list[list[nn.Module]]:
        strides = 1, 2, 1 if large_feature_map else 2, 1
        channels, widths = (64, 256, 512, 1024), (64, 128, 256, 512)
        return [_stage(*sizes) for sizes in zip(channels, widths, _NUM_BLOCKS, strides, strict=True)]

    def _stem(self, images: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.relu(self.bn1(self.conv1(images)), inplace=True), 3, 2, 1)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Features of the last stage, float [N, 2048, h, w]."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self._stem(images)))))

    def torchvision_names(self) -> dict[str, str]:
        """Names of our parameters that torchvision's ResNet50 has, and its names for them.

        The linear layer is among them if ours has 1000 classes too.
        """
        ours = [name for name, module in self.named_modules() if isinstance(module, Bottleneck)]
        theirs = [f"layer{stage}.{block}" for stage, n in enumerate(_NUM_BLOCKS, 1) for block in range(n)]
        renamed = dict(zip(ours, theirs, strict=True))
        same = {"conv1", "bn1", "fc"} if self.num_classes == 1000 else {"conv1", "bn1"}
        names = {}
        for name in self.state_dict():
            block, part = name.split(".")[:2], name.split(".")[2:]
            if ".".join(block) in renamed:
                names[name] = ".".join([renamed[".".join(block)], *part])
            elif block[0] in same:
                names[name] = name
        return names


class ResNet50Cam(_ResNet50, CamNetwork):
    """CAM, and ADL with its layers behind the first block of stage 3 and the first and last of stage 4."""

    classifying_layer = "fc"

    def __init__(self, num_classes, large_feature_map, tap_threshold, adl_drop_rate=None, adl_threshold=None):
        super().__init__(num_classes)
        self.tap_threshold = tap_threshold
        self._make_stem()
        stages = self._stages(large_feature_map)
        if adl_drop_rate is not None:
            for stage, position in ((2, 1), (3, 3), (3, 1)):
                stages[stage].insert(position, ADL(adl_drop_rate, adl_threshold))
        for number, blocks in enumerate(stages, 1):
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(2048, num_classes)
        initialize(self, "xavier")


class ResNet50Acol(_ResNet50, AcolNetwork):
    """ACoL."""

    def __init__(self, num_classes, large_feature_map, acol_threshold):
        super().__init__(num_classes)
        self.acol_threshold = acol_threshold
        self._make_stem()
        for number, blocks in enumerate(self._stages(large_feature_map), 1):
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self._make_branches(2048, num_classes)
        initialize(self, "he")


class ResNet50Spg(_ResNet50, SpgNetwork):
    """SPG; B1 sees the first block of stage 3, B2 its last."""

    classifying_layer = "SPG_A4"

    def __init__(self, num_classes, large_feature_map):
        super().__init__(num_classes)
        self._make_stem()
        stages = self._stages(large_feature_map)
        self.layer1, self.layer2 = nn.Sequential(*stages[0]), nn.Sequential(*stages[1])
        self.SPG_A1, self.SPG_A2 = nn.Sequential(stages[2][0]), nn.Sequential(*stages[2][1:])
        self.layer4 = nn.Sequential(*stages[3])
        self.SPG_A4 = nn.Conv2d(2048, num_classes, 1)
        self._make_guided(1024, 1024, 1024, 2048)
        initialize(self, "xavier")

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features in front of B1 and B2, float [N, 1024, h, w] each, and of the classes, float [N, 2048, h, w]."""
        first = self.SPG_A1(self.layer2(self.layer1(self._stem(images))))
        second = self.SPG_A2(first)
        return first, second, self.layer4(second)


NETWORKS = {"cam": ResNet50Cam, "adl": ResNet50Cam, "acol": ResNet50Acol, "spg": ResNet50Spg}
