"""CLIP as a classifier whose classes are texts.

In: transformers' CLIPModel, a prompt a class, its tokenizer. Out: a torch.nn.Module from images to logits.
Source: Radford et al., CLIP, arXiv 2103.00020, section 3.1 (zero-shot classification by cosines of image and text).
"""

import os
from collections.abc import Sequence

import torch

from wsolkern.errors import ArgumentError


class PromptedClip(torch.nn.Module):
    """CLIP as a classifier: a logit is the cosine of image and prompt, times CLIP's own scale.

    Args:
        clip: transformers' CLIPModel, or one with its parts: see :func:`wsolkern.cams.prompts.is_clip`.
        prompts: A text a class, in the classes' order.
        tokenizer: Folder of its tokenizer; None: the folder that the model was loaded from.

    Raises:
        ArgumentError: There is no such folder, or a prompt has more tokens than the model takes.
        ImportError: transformers is not installed.
    """

    def __init__(self, clip: torch.nn.Module, prompts: Sequence[str], tokenizer: str | os.PathLike[str] | None = None):
        super().__init__()
        self.clip = clip.eval()
        self.tokens = torch.nn.Identity()
        self.num_classes = len(prompts)
        self.backbone = type(clip).__name__
        self.register_buffer("texts", self._embedded(list(prompts), tokenizer))
        """Unit vectors [K, D]."""

    @property
    def scale(self) -> torch.Tensor:
        """What cosines are multiplied with."""
        return self.clip.logit_scale.exp()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, K] of images float [N, 3, H, W]."""
        tokens = self.tokens(self.clip.vision_model(pixel_values=images).last_hidden_state)
        return self.similarity(tokens[:, 0]) * self.scale

    def similarity(self, tokens: torch.Tensor) -> torch.Tensor:
        """Cosines [..., K] of the vision model's tokens [..., C] and the prompts."""
        embedded = self.clip.visual_projection(self.clip.vision_model.post_layernorm(tokens))
        return torch.nn.functional.normalize(embedded, dim=-1) @ self.texts.T

    def _embedded(self, prompts: list[str], tokenizer: str | os.PathLike[str] | None) -> torch.Tensor:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise ImportError(f"--prompts: needs transformers: pip install wsolkern[models] ({error})") from error
        folder = tokenizer or getattr(self.clip, "name_or_path", "") or ""
        if not os.path.isdir(folder):
            raise ArgumentError(
                "tokenizer", f"expected the folder of the model's tokenizer, found {os.fspath(folder) or 'none'}"
            )
        try:
            made = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ArgumentError("tokenizer", f"{os.fspath(folder)}: {error}") from error
        ids = made(prompts, padding=True, return_tensors="pt")
        most = self.clip.text_model.config.max_position_embeddings
        lengths = ids["attention_mask"].sum(1)
        if lengths.max() > most:
            worst = int(lengths.argmax())
            raise ArgumentError(
                "prompts",
                f"class {worst}: expected at most {most} tokens, found {int(lengths[worst])}: {prompts[worst]!r}",
            )
        device = self.clip.logit_scale.device
        with torch.no_grad():
            pooled = self.clip.text_model(
                input_ids=ids["input_ids"].to(device), attention_mask=ids["attention_mask"].to(device)
            ).pooler_output
            return torch.nn.functional.normalize(self.clip.text_projection(pooled), dim=-1)
