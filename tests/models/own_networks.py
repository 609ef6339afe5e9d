"""The examples of docs/inputs.md: models of one's own for ``wsolkern extract`` and ``wsolkern train``.

In: what the commands give a function. Out: networks and functions. tests/models/test_networks.py runs them.
Source: none.
"""

# example: CAMs by a function of your own
import torch
from torch import nn

from wsolkern.cams import Look


def grad_cams(num_classes=3):
    """Grad-CAM of a network with a hidden layer behind its pooling, which has no CAMs by itself."""
    features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
    classifier = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, num_classes)
    )
    # classifier.load_state_dict(...)

    def cams(images, classes):
        maps = features(images)
        logits = classifier(maps)
        classes = logits.argmax(1) if classes is None else classes
        (gradients,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), maps)
        return Look((gradients.mean((2, 3), keepdim=True) * maps).sum(1).detach(), classes, logits.detach())

    return cams


# example: One channel
class Gray(nn.Module):
    """Red, green and blue to one channel."""

    def forward(self, images):
        return images.mean(1, keepdim=True)


def gray_network(num_classes=3):
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
    )
    return nn.Sequential(Gray(), network)


# example: A network of your own, for CAM, HaS and CutMix
class Plain(nn.Module):
    """Any network that gives logits behind a plain average and one linear layer."""

    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 1, 1))
        self.head = nn.Linear(12, num_classes)

    def forward(self, images):
        return self.head(self.features(images).relu().mean((2, 3)))


def plain(num_classes):
    return Plain(num_classes)


# example: A network of your own, for all methods
from wsolkern.methods.adl import ADL  # noqa: E402
from wsolkern.models.heads import AcolNetwork, CamNetwork, SpgNetwork  # noqa: E402


def layers(channels, filters, stride=2):
    return nn.Conv2d(channels, filters, 3, stride, 1), nn.BatchNorm2d(filters), nn.ReLU()


class Cam(CamNetwork):
    """CAM, HaS, CutMix, and ADL with its layer: features by trunk(), one classifying layer."""

    classifying_layer, classifier_layers, tap_threshold = "head", ("head.",), None

    def __init__(self, num_classes, adl_drop_rate=None, adl_threshold=None):
        super().__init__(num_classes)
        drop = [] if adl_drop_rate is None else [ADL(adl_drop_rate, adl_threshold)]
        self.features = nn.Sequential(*layers(3, 8), *drop, *layers(8, 12))
        self.head = nn.Linear(12, num_classes)

    def trunk(self, images):
        return self.features(images)


class Acol(AcolNetwork):
    """ACoL: features by trunk(), two branches that end in a 1x1 convolution."""

    classifier_layers = ("classifier_",)

    def __init__(self, num_classes, acol_threshold):
        super().__init__(num_classes)
        self.acol_threshold = acol_threshold
        self.features = nn.Sequential(*layers(3, 8))
        self.classifier_A, self.classifier_B = (
            nn.Sequential(*layers(8, 12, 1), nn.Conv2d(12, num_classes, 1)) for _ in range(2)
        )

    def trunk(self, images):
        return self.features(images)


class Spg(SpgNetwork):
    """SPG: features of three depths by stages(): of branches B1 and B2, and of the classes and C."""

    classifying_layer, classifier_layers = "SPG_A4", ("SPG_",)

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.first, self.second, self.last = (nn.Sequential(*layers(*sizes)) for sizes in ((3, 8), (8, 8), (8, 12)))
        self.SPG_A4 = nn.Conv2d(12, num_classes, 1)
        self.SPG_B_1a, self.SPG_B_2a = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.SPG_B_shared, self.SPG_C = nn.Conv2d(8, 1, 1), nn.Conv2d(12, 1, 1)

    def stages(self, images):
        first = self.first(images)
        second = self.second(first)
        return first, second, self.last(second)


def all_methods(method, num_classes, large_feature_map, **options):
    """``options`` are acol_threshold for ACoL, adl_drop_rate and adl_threshold for ADL."""
    return {"acol": Acol, "spg": Spg}.get(method, Cam)(num_classes, **options)
