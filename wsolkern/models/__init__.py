"""Classifiers: the published WSOL networks, and the one whose CAMs the demo evaluates.

In: a backbone, a method, a checkpoint; images. Out: networks that give logits or CAMs; feature maps for the demo.
Source: Choe et al., arXiv 2007.04178, section 5 (clovaai/wsolevaluation); EfficientNet-Lite0: Tan and Le, 1905.11946.
"""

from wsolkern.models.checkpoints import load_checkpoint, load_pretrained
from wsolkern.models.efficientnet_lite import EfficientNetLite0
from wsolkern.models.networks import BACKBONES, METHODS, build

__all__ = ["BACKBONES", "METHODS", "EfficientNetLite0", "build", "load_checkpoint", "load_pretrained"]
