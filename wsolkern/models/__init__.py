"""Classifiers whose CAMs the demo evaluates.

In: photographs. Out: feature maps of the last convolution and the weights of the linear layer behind the pooling.
Source: EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6).
"""

from wsolkern.models.efficientnet_lite import EfficientNetLite0

__all__ = ["EfficientNetLite0"]
