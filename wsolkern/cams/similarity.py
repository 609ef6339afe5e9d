"""What the head of a class token says of each patch.

In: a transformer whose head reads its class token, or CLIP with prompts; images, classes. Out: raw maps [N, h, w].
Source: Zhou et al., MaskCLIP, arXiv 2112.01071, section 3.2: the last attention is left out, so that a patch's feature
is its own value, and the classifier of the pooled feature is applied to it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsolkern.cams.activation import Look
from wsolkern.cams.heads import is_head, logits_of
from wsolkern.cams.looks import NamedCams
from wsolkern.cams.tokens import TokenLayout, attentions, classifier_logits, find_tokens, with_last_tokens

if TYPE_CHECKING:
    import torch

_TOLERANCE = 1e-4  # of the largest logit


class SimilarityCams(NamedCams):
    """Token-class similarity: the class's weights times what comes out of the network for a patch.

    In the last layer each patch attends to itself alone, so that its token is what its own value makes; the class token
    attends to all, so that the logits are the model's own, from the same pass. Values are of logits' unit, of any sign,
    without the class's bias; of a model with ``similarity`` (CLIP) they are cosines in [-1, 1].

    Args:
        model: A vision transformer whose logits are made of the class token alone, or
            :class:`wsolkern.cams.clip.PromptedClip`.
        size: Height and width of the images it is tried on, in pixels.

    Raises:
        ValueError: The model's head reads something else, or more than the class token.
    """

    def __init__(self, model: "torch.nn.Module", size: tuple[int, int] = (224, 224)):
        import torch

        super().__init__(model)
        images = self._probe(size)
        with torch.inference_mode():
            if classifier_logits(self.model, self.model(images)) is None:
                raise ValueError(f"{type(self.model).__name__}: expected a classifier with logits [N, K], found none")
        self.layout: TokenLayout = find_tokens(self.model, images)
        if not self.layout.reads_class or self.layout.reads_patches is not False:
            read = "the patches" if self.layout.reads_patches else "something else"
            also = "the class token and " if self.layout.reads_class and self.layout.reads_patches else ""
            raise ValueError(
                f"{type(self.model).__name__}: expected a head that reads the class token alone, found one that reads "
                f"{also}{read}"
            )
        self._tail: list[str] = [] if hasattr(self.model, "similarity") else self._find_tail(images)
        self(images)  # so that what is wrong shows before the work

    def _looks(self, images: "torch.Tensor", classes: "Sequence[torch.Tensor | None]") -> list[Look]:
        import torch

        last = self.layout.num_layers - 1
        with attentions(self.model, weights=False, alone=(last, self.layout.num_prefix)):
            output, tokens = with_last_tokens(self.model, images, self.layout)
        logits, found = logits_of(output), []
        self._expect_head(tokens[:, 0], logits)
        scores = self._scores(tokens[:, self.layout.num_prefix :])
        for some in classes:
            some = logits.argmax(1) if some is None else torch.as_tensor(some, device=logits.device)
            chosen = some.long()[:, None, None].expand(-1, scores.shape[1], 1)
            found.append(Look(self.layout.as_map(scores.gather(2, chosen)[..., 0]), some, logits))
        return found

    def _find_tail(self, images: "torch.Tensor") -> list[str]:
        """The modules between the class token and the logits, in their order."""
        import torch

        called: list[str] = []
        hooks = []
        for path, module in self.model.named_modules():
            if path == self.layout.last:
                hooks.append(module.register_forward_hook(lambda *_: called.clear()))
            elif not list(module.children()):
                hooks.append(module.register_forward_hook(lambda *_, path=path: called.append(path)))
        try:
            with torch.inference_mode():
                self.model(images)
        finally:
            for each in hooks:
                each.remove()
        return called

    def _scores(self, tokens: "torch.Tensor", *, bias: bool = False) -> "torch.Tensor":
        """What the head says of tokens [..., C]: [..., K]."""
        import torch

        if not self._tail:
            return self.model.similarity(tokens)
        *before, head = (self.model.get_submodule(path) for path in self._tail)
        for each in before:
            tokens = each(tokens)
        return torch.nn.functional.linear(tokens, head.weight.flatten(1), head.bias if bias else None)

    def _expect_head(self, tokens: "torch.Tensor", logits: "torch.Tensor") -> None:
        """Raises ValueError if logits are not what the head says of the class tokens [N, C]."""
        import torch

        name = type(self.model).__name__
        found = None
        if not self._tail:
            found = self.model.similarity(tokens) * self.model.scale
        elif is_head(self.model.get_submodule(self._tail[-1])):
            try:
                found = self._scores(tokens, bias=True)
            except RuntimeError:  # modules that do not follow one another
                found = None
        eps = 4 * torch.finfo(logits.dtype).eps
        bound = max(_TOLERANCE, eps) * logits.float().abs().max()
        if found is None or found.shape != logits.shape or not ((found - logits).float().abs() <= bound).all():
            raise ValueError(
                f"{name}: expected logits that {', '.join(self._tail) or 'similarity'} makes of the class token alone, "
                "found others: there is more than one head, or something else between"
            )
