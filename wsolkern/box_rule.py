"""The box rules: how published evaluations make a box of a CAM, and when that box is a hit.

In: a name such as "ts-cam", or the fields. Out: values that print as such names.
Source: of each rule its own, in ``BOX_RULES`` below; what could not be read anywhere is marked as assumed there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from wsolkern.errors import ArgumentError
from wsolkern.normalization import Normalization

_CHOICES = {
    "interpolation": ("cubic", "linear"),
    "precision": ("float32", "float64"),
    "levels": ("8-bit", "float"),
    "comparison": (">", ">="),
    "connectivity": (4, 8),
    "largest": ("contour area", "pixel count", "box area"),
    "ties": ("first", "last"),
    "far_edge": ("clipped", "past", "last"),
    "hit": (">", ">="),
}
BOX_RULES: "dict[str, BoxRule]" = {}  # filled below, where their sources are
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")


@dataclass(frozen=True)
class BoxRule:
    """One rule, as ``BoxRule.parse("ts-cam")`` gives it; ``str`` gives the name back.

    A rule of one's own is a published one with other fields and another name:
    ``dataclasses.replace(BoxRule.parse("ts-cam"), name="mine", hit=">")``.

    Raises:
        ValueError: A field is not as below; or two fields contradict each other: contours, their area and their hole
            borders are those of 8-connected pixels, and cubic interpolation is computed in float64.
    """

    name: str
    """What it is called: small letters, digits, "-", "_" and "."; published names stand for the published fields."""
    interpolation: str = "linear"
    """How a CAM is resized, as OpenCV does it: "cubic" or "linear" (bilinear)."""
    precision: str = "float32"
    """What is computed in until there are levels: "float32" or "float64"."""
    normalization: Normalization | None = None
    """What the rule's source normalizes with, and commands unless told otherwise; None: whatever is asked for."""
    levels: str = "8-bit"
    """What thresholds are compared with: "8-bit" levels (255 times the score, truncated) or scores as they are,
    "float"."""
    relative_to: float | None = 1.0
    """What a threshold is a fraction of: this fraction's percentile of the map's levels (linear between two order
    statistics, as numpy's), 1.0 being their maximum; None: of the largest level there can be (absolute)."""
    comparison: str = ">"
    """Foreground is what is ">" or ">=" the threshold."""
    connectivity: int = 8
    """Of the foreground: 8 or 4."""
    largest: str = "contour area"
    """Which component is the largest: by "contour area" (OpenCV's), "pixel count" or "box area"."""
    ties: str = "last"
    """Which of several that are as large: the "first" or the "last" one by its first pixel in raster order."""
    hole_borders: bool = True
    """Whether the borders of holes are contours of their own, where every contour counts (MaxBoxAccV2)."""
    far_edge: str = "past"
    """x1 and y1 of a box: "past" (x + w, one past the last pixel), "clipped" (the same, but within the map) or "last"
    (the last pixel)."""
    empty: tuple[int, int, int, int] = (0, 0, 0, 0)
    """The box where nothing is foreground, x0 y0 x1 y1 in pixels."""
    inclusive: bool = True
    """Whether the IoU takes x1 - x0 + 1 for a box's width, or x1 - x0; the ground truth's boxes, too."""
    hit: str = ">="
    """A hit is an IoU ">=" or ">" the IoU threshold."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"box rule: expected a name such as ts-cam, found {self.name!r}")
        for field, allowed in _CHOICES.items():
            value = getattr(self, field)
            if type(value) is not type(allowed[0]) or value not in allowed:
                expected = " or ".join(map(repr, allowed))
                raise ValueError(f"box rule {self.name}: {field}: expected {expected}, found {value!r}")
        for field in ("hole_borders", "inclusive"):
            if type(getattr(self, field)) is not bool:
                raise ValueError(f"box rule {self.name}: {field}: expected a bool, found {getattr(self, field)!r}")
        if self.normalization is not None:
            object.__setattr__(self, "normalization", Normalization.parse(self.normalization))
        if self.relative_to is not None and not (type(self.relative_to) is float and 0 <= self.relative_to <= 1):
            raise ValueError(
                f"box rule {self.name}: relative_to: expected None or a float in [0, 1], found {self.relative_to!r}"
            )
        if not (isinstance(self.empty, tuple) and len(self.empty) == 4 and all(type(x) is int for x in self.empty)):
            raise ValueError(f"box rule {self.name}: empty: expected four integers, found {self.empty!r}")
        if self.connectivity == 4 and (self.hole_borders or self.largest == "contour area"):
            raise ValueError(f"box rule {self.name}: contours and hole borders need connectivity 8, found 4")
        if self.largest == "contour area" and self.ties == "first":
            raise ValueError(f"box rule {self.name}: ties: of contours OpenCV lists the last first, found 'first'")
        if self.interpolation == "cubic" and self.precision == "float32":
            raise ValueError(f"box rule {self.name}: precision: cubic interpolation needs float64, found float32")
        if BOX_RULES.get(self.name, self) != self:
            raise ValueError(
                f"box rule {self.name}: expected the published fields, found others: give it a name of its own"
            )

    @classmethod
    def parse(cls, name: "str | BoxRule") -> "BoxRule":
        """The published rule of a name; a rule is itself.

        Raises:
            ArgumentError: No such name.
        """
        if isinstance(name, BoxRule):
            return name
        rule = BOX_RULES.get(name.strip()) if isinstance(name, str) else None
        if rule is None:
            raise ArgumentError("box_rule", f"expected one of {', '.join(BOX_RULES)}, found {name!r}")
        return rule

    def __str__(self) -> str:
        return self.name

    def reaches(self, ious: Any, iou_thresholds: Any) -> Any:
        """Which IoUs are hits at IoU thresholds: arrays, or numbers, that broadcast."""
        return ious >= iou_thresholds if self.hit == ">=" else ious > iou_thresholds

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them; :meth:`from_dict` reads them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        normalization = None if self.normalization is None else str(self.normalization)
        return values | {"normalization": normalization, "empty": list(self.empty)}

    @classmethod
    def from_dict(cls, values: Any) -> "BoxRule":
        """The rule that :meth:`to_dict` gave.

        Raises:
            ValueError: Something else.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names or not isinstance(values["empty"], list):
            raise ValueError(f"box rule: expected {', '.join(sorted(names))}, found {str(values)[:80]}")
        return cls(**values | {"empty": tuple(values["empty"])})

    def recorded(self) -> dict[str, Any]:
        """What a file says of the rule: under "box_rule" its fields; nothing where it is "choe", as before there were
        rules."""
        return {} if self == CHOE else {"box_rule": self.to_dict()}

    @classmethod
    def recorded_in(cls, content: Mapping[str, Any]) -> "BoxRule":
        """The rule of a file that has :meth:`recorded` in it.

        Raises:
            ValueError: It has something else there.
        """
        return cls.from_dict(content["box_rule"]) if "box_rule" in content else CHOE


CHOE = BoxRule(
    "choe",
    interpolation="cubic",
    precision="float64",
    far_edge="clipped",
)
"""The published evaluation of the field, and ours: Choe et al., arXiv 2007.04178; clovaai/wsolevaluation (MIT),
``compute_bboxes_from_scoremaps`` and ``calculate_multiple_iou`` of evaluation.py and util.py."""

# Scikit-image's regions: 8-connected, numbered in raster order, half-open boxes; scores and thresholds as they are.
_REGIONS: dict[str, Any] = {
    "levels": "float",
    "relative_to": None,
    "largest": "pixel count",
    "ties": "first",
    "hole_borders": False,
}

for _rule in (
    CHOE,
    BoxRule("ts-cam", normalization=Normalization("minmax"), empty=(0, 0, 1, 1)),
    BoxRule("rethinking", normalization=Normalization("minmax"), relative_to=0.9),
    BoxRule("sat", normalization=Normalization("minmax"), **_REGIONS),
    BoxRule("bas", normalization=Normalization("minmax"), **_REGIONS),
    BoxRule("psol", normalization=Normalization("max"), inclusive=False, **_REGIONS),
):
    BOX_RULES[_rule.name] = _rule
"""The published rules by name.

- ``choe``: see :data:`CHOE`.
- ``ts-cam``: Gao et al., ICCV 2021, arXiv 2103.14862; vasgaowei/TS-CAM (MIT), ``resize_cam``, ``get_bboxes`` and
  ``cal_iou`` of lib/cams_deit.py. Its threshold is 0.1 on CUB. It counts GT-known localization with IoU >= 0.5, Top-1
  and Top-5 with > 0.5.
- ``rethinking``: Bae et al., ECCV 2020, section 3.3: a threshold is a fraction (0.35 in its README) of the 90th
  percentile. That this is numpy's percentile of 8-bit levels is by a description; the rest is assumed to be as
  ``ts-cam``.
- ``sat``: Wu et al., ICCV 2023, arXiv 2303.10438. Labels of scikit-image, the one of most pixels, absolute thresholds:
  by a description; the resize, ``>``, 8 neighbours, the first of several, half-open boxes and inclusive widths are
  assumed.
- ``bas``: Wu et al., CVPR 2022, arXiv 2112.00580: as ``sat``, from which no description tells it apart.
- ``psol``: Zhang et al., CVPR 2020, arXiv 2002.11359, after Wei et al., arXiv 1705.02758: the largest connected
  component of what is positive, which is threshold 0 of max normalization. 8 neighbours, the first of several,
  half-open boxes and their continuous IoU are assumed.

The code of ``rethinking``, ``sat``, ``bas`` and ``psol`` has no free licence and was not read.
"""
