"""CAMs of networks with more than a linear layer behind the average, linearised at the feature that was pooled.

In: a classifier whose logits depend on nothing but the mean of a feature map; images, classes. Out: raw maps [N, h, w].
Source: Zhou et al., arXiv 1512.04150, equation 2, for the first-order Taylor expansion of what is behind the average.

With F(x, y) the feature map, p its mean, f(p) the logit of a class and g the gradient of f at p, the map is
g · F(x, y) + f(p) − g · p. Its mean is the logit. Where f is linear (g the weights, f(p) − g · p the bias) it is the
CAM plus the bias. The constant changes no map under min-max or IVR, which subtract a minimum or a percentile of the map
itself; under max and PaS, which divide by values, it counts.

That a logit depends on the mean alone is tried with random numbers: in the map's place, of all weights. Its values are
halved about their mean and shuffled, under other images; the logits must stay, and must be others for another mean.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from wsolkern.cams.activation import Look
from wsolkern.cams.heads import rounding_of
from wsolkern.cams.layouts import Layout, draw, grids_of, layouts_of, lies_in_rows
from wsolkern.cams.looks import NamedCams
from wsolkern.cams.places import Place, at, candidates, forward, is_map, open_modules, places_of, record
from wsolkern.cams.tokens import classifier_logits
from wsolkern.errors import ArgumentError

if TYPE_CHECKING:
    import torch

_MOST_PROOFS = 12  # places that are tried with random numbers; more are left only where all gradients are 0
_NORM_SPREAD = 0.1  # of the random numbers about 1 in the place of weights that multiply channels


class Pooled(NamedTuple):
    """A feature map of whose values nothing but the mean matters."""

    features: Place
    layout: Layout


class LinearCams(NamedCams):
    """CAMs of networks with a normalization, a hidden layer or both between the average and the logits.

    A call takes the gradient of a class's logit at the feature map, which must be the same for all pixels: 1e-4 of the
    largest value may be rounding, more where types are coarser. Values are logits: a map's mean is the logit, up to
    the rounding of a mean.

    Args:
        model: A classifier; its output is the logits [N, K], or has them.
        size: Height and width of the images it is tried on, in pixels.
        features: Path of the module whose output is pooled; None finds it.

    Raises:
        ArgumentError: The module is none, or its output is no feature map.
        ValueError: There is no feature map on whose mean alone the logits depend, or the model has no logits.

    Source: see the module.
    """

    needs_gradients = True
    linearised = "at the pooled feature"
    """For the manifest."""

    def __init__(self, model: "torch.nn.Module", size: tuple[int, int] = (224, 224), *, features: str | None = None):
        super().__init__(model)
        found = find_pooled(self.model, self._probe(size), features=features)
        self.features: Place = found.features
        """What is pooled."""
        self.layout: Layout = found.layout
        """What its axes are."""

    def _looks(self, images: "torch.Tensor", classes: "Sequence[torch.Tensor | None]") -> list[Look]:
        import torch

        output, seen = _with_gradients(self.model, images, [self.features])
        logits, found = _logits_of(self.model, output), []
        values = seen[self.features]
        maps = self.layout.as_map(values.detach())
        wide = torch.promote_types(maps.dtype, torch.float32)
        with torch.autocast(images.device.type, enabled=False):
            for number, some in enumerate(classes):
                some = logits.argmax(1) if some is None else torch.as_tensor(some, device=logits.device)
                real = logits.gather(1, some.long()[:, None])[:, 0]
                (gradient,) = torch.autograd.grad(real.sum(), values, retain_graph=number + 1 < len(classes))
                slopes = self.layout.as_map(gradient).to(wide)
                if not _is_even(slopes, rounding_of(maps, logits)):
                    raise ValueError(
                        f"{type(self.model).__name__}: the gradient of a logit is not the same at all pixels of "
                        f"{self.features}, whose mean was all that mattered; if the model was changed, make this again"
                    )
                cams = torch.einsum("nc,nchw->nhw", slopes.sum((2, 3)), maps.to(wide))
                offset = real.detach().to(wide) - cams.mean((1, 2))
                found.append(Look(cams + offset[:, None, None], some, logits.detach()))
        return found


def find_pooled(model: "torch.nn.Module", images: "torch.Tensor", *, features: str | None = None) -> Pooled:
    """Finds the last feature map of whose values nothing but the mean over the pixels matters to the logits.

    Args:
        model: In evaluation mode.
        images: What it is tried on, float [N >= 2, 3, H, W] of the model's type and on its device.
        features: Path of the module whose output is pooled, if it is known.

    Raises:
        ArgumentError: The module is none, or its output is no feature map.
        ValueError: There is none, or the model has no logits.
    """
    import torch

    name = type(model).__name__
    modules = open_modules(model)
    if features is not None and features not in modules:
        raise ArgumentError("features", f"expected the path of a module of {name}", features)
    with torch.inference_mode():
        _logits_of(model, forward(model, images))  # what fails says so
    output, seen = _with_gradients(model, images, places_of(modules))
    logits = _logits_of(model, output)
    maps = [place for place in seen if is_map(seen[place], images)]
    grids = grids_of([seen[place] for place in maps if seen[place].ndim == 4])
    if features is not None:
        maps = [place for place in maps if place == Place(features)]
        if not maps:
            raise ArgumentError("features", f"expected a module of {name} whose output is a feature map", features)
    tried, tolerance = 0, rounding_of(*seen.values(), logits)
    places = [place for place in candidates(maps, seen) if seen[place].requires_grad]
    slopes = dict(zip(places, _gradients(logits, [seen[place] for place in places]), strict=True))
    some_matter = any(each is not None and each.any() for each in slopes.values())
    for place in places:
        for layout in layouts_of(seen[place], grids):
            slope = None if slopes[place] is None else layout.as_map(slopes[place])
            # Gradients are 0 where pixels do not matter or, of all, where a weight of 0 hides what does.
            if slope is None or (some_matter and not slope.any()) or not _is_even(slope, tolerance):
                continue
            tried += 1
            if tried <= _MOST_PROOFS and _is_proved(model, images, Pooled(place, layout)):
                return Pooled(place, layout)
    what = "no feature map of several pixels" if features is None else f"{features!r} is no feature map"
    raise ValueError(
        f"{name}: {'found ' if features is None else ''}{what} whose mean over the pixels is all that its logits "
        "depend on: more than an average is between each map and the logits, such as a maximum, attention, a class "
        "token or a layer over pixels"
    )


def _is_proved(model: "torch.nn.Module", images: "torch.Tensor", parts: Pooled) -> bool:
    """Whether logits depend on the mean of a map alone, with random numbers for all weights and for the map."""
    import torch

    place, layout = parts
    random = torch.Generator().manual_seed(1)
    weights = {name: _drawn(each, random) for name, each in model.named_parameters() if each.is_floating_point()}
    given: list[torch.Tensor] = []

    def made(images: "torch.Tensor", change) -> "torch.Tensor | None":
        """Logits for random numbers in the map's place, changed."""
        given.clear()

        def replace(_, value: "torch.Tensor") -> "torch.Tensor | None":
            if not layout.fits(value):
                return None
            numbers = layout.drawn(value, torch.Generator().manual_seed(2))
            change(numbers)
            given.append(numbers)
            return numbers.clone()

        with torch.inference_mode(), at(model, [place], replace):
            return _logits_of(model, torch.func.functional_call(model, weights, images)).float()

    def halve(numbers: "torch.Tensor") -> None:
        """The same mean, of other numbers at other pixels; what is not pooled (a class token) is others altogether."""
        pixels = layout.as_map(numbers)
        mean = pixels.mean((2, 3), keepdim=True)
        order = torch.randperm(pixels[0, 0].numel(), generator=random).to(pixels.device)
        halved = (mean + (pixels - mean).flatten(2)[:, :, order].unflatten(2, pixels.shape[2:]) / 2).clone()
        numbers.copy_(draw(numbers, random, 1.0))
        pixels.copy_(halved)

    def shift(numbers: "torch.Tensor") -> None:
        """Another mean."""
        layout.as_map(numbers).add_(draw(layout.as_map(numbers)[:, :, :1, :1], random, 3.0))

    try:
        first, second, third = made(images, lambda _: None), made(3 * images.flip(0) + 1, halve), made(images, shift)
    except Exception:  # whatever a model's code raises of such features
        return False
    if not given or not first.isfinite().all():
        return False
    tolerance = rounding_of(given[0], first) * first.abs().max()
    same = ((first - second).abs() <= tolerance).all()
    other = ((first - third).abs() > 10 * tolerance).any(1).all()
    if not same or not other:
        return False

    def map_of(images: "torch.Tensor") -> "torch.Tensor":
        with torch.inference_mode(), record(model, [place]) as seen:
            model(images)
        return layout.as_map(seen[place])

    return layout.grid is None or lies_in_rows(map_of, images)


def _drawn(weight: "torch.Tensor", random: "torch.Generator") -> "torch.Tensor":
    """Random numbers in the place of weights: about 1 for those of channels, else as small as keeps sums small."""
    if weight.ndim < 2:
        return 1 + draw(weight, random, _NORM_SPREAD)
    return draw(weight, random, max(weight[0].numel(), 1) ** -0.5)


def _logits_of(model, output) -> "torch.Tensor":
    found = classifier_logits(model, output)
    if found is None:
        raise ValueError(f"{type(model).__name__}: expected a classifier with logits [N, K], found none")
    return found


def _with_gradients(model, images: "torch.Tensor", places: list[Place]):
    """A model's output and what passes some places, as parts of a graph that ends at the images.

    Only what is behind the first place is kept for gradients.
    """
    import torch

    seen: dict[Place, torch.Tensor] = {}

    def keep(place: Place, value: "torch.Tensor") -> "torch.Tensor | None":
        torch.set_grad_enabled(True)
        other = None
        if value.is_floating_point() and not value.requires_grad:
            other = value.detach().requires_grad_() * 1  # what changes in place a leaf of a graph is an error
        seen.pop(place, None)
        seen[place] = value if other is None else other
        return other

    with torch.enable_grad():  # which puts back what the hooks change
        torch.set_grad_enabled(False)
        with at(model, places, keep):
            output = model(images)
        torch.set_grad_enabled(True)
    return output, seen


def _gradients(logits: "torch.Tensor", values: "list[torch.Tensor]") -> "tuple[torch.Tensor | None, ...]":
    """Of a sum of all logits, with other factors each."""
    import torch

    if not logits.requires_grad or not values:
        return (None,) * len(values)
    factors = torch.linspace(1, 2, logits.shape[1], device=logits.device, dtype=logits.dtype)
    return torch.autograd.grad((logits * factors).sum(), values, allow_unused=True)


def _is_even(slopes: "torch.Tensor", tolerance: float) -> bool:
    """Whether numbers [N, C, h, w] are the same at all pixels."""
    ends = slopes.amax((2, 3)) - slopes.amin((2, 3))
    return bool((ends <= tolerance * slopes.abs().amax((1, 2, 3))[:, None]).all())
