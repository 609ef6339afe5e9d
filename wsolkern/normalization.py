"""The normalizations: how a resized CAM F becomes a score map in [0, 1].

In: a string such as "ivr:0.45" or, for several, "max ivr:0..0.95/0.05". Out: values that print as such strings and know
their formula and their order statistics.
Source: Kim et al., arXiv 2107.13221, equations 3 (min-max), 4 (max), 5 (PaS) and 6 (IVR).

Every one of them is ``S = clip((F - offset) / divisor, 0, 1)`` in float64, in that order, with two numbers per map:

==============  ===============================  =====================================
normalization   offset                           divisor
==============  ===============================  =====================================
minmax          min(F)                           max(F) - offset
max             0                                max(F)
pas:p           min(F)                           sorted(F)[int(n * p)] - offset
ivr:p           sorted(F)[int(n * p)]            max(F) - offset
ivr:p+pas:q     sorted(F)[int(n * p)]            max(0, sorted(F)[int(n * q)] - offset)
==============  ===============================  =====================================

This equals the published order of operations (subtract, clamp, divide) to the bit: subtraction and division round
monotonically, so the maximum and the order statistics of the shifted map are the shifted ones of F.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from numbers import Real

import numpy as np

# Ranks that are not an index into the sorted map; `csrc/cpu/statistics.h` reads the same numbers.
RANK_ZERO = -2  # offset 0
RANK_EXTREME = -1  # offset min(F), divisor from max(F)

_PATTERN = re.compile(r"(?P<name>minmax|max|pas|ivr)(?::(?P<p>[^+:]+))?(?:\+pas:(?P<q>[^+:]+))?")
_RANGE = re.compile(r"(\d*\.?\d+)\.\.(\d*\.?\d+)/(\d*\.?\d+)")  # first..last/step, in place of a percentile
_MOST_STEPS = 1000  # percentiles of one range; more is a slip of the pen
# A percentile so close to a number of so few decimals is that number with the rounding errors of the steps up to it.
_SHORT = {8: (6, 1e-12), 4: (4, 5e-7)}  # bytes of a float: decimals, distance
_FORMULAS = {
    "minmax": ("(F - min F) / (max F - min F)", "equation 3"),
    "max": ("max(0, F) / max F", "equation 4"),
    "pas": ("min(1, (F - min F) / per{p}(F - min F))", "equation 5"),
    "ivr": ("max(0, F - per{p} F) / max(F - per{p} F)", "equation 6"),
    "ivr+pas": ("min(1, G / per{q} G) with G = max(0, F - per{p} F)", "equations 5 and 6 together"),
}


@dataclass(frozen=True)
class Normalization:
    """One normalization, as ``Normalization.parse("ivr:0.45")`` makes it; ``str`` gives the string back.

    A percentile may be any real number: of Python, numpy (0-d arrays, too), a Fraction, a Decimal. It becomes a Python
    float, the one that is printed and that ``int(n * p)`` is computed with:

    - a float32 or float16 is the shortest decimal number that it stands for: 0.45, not 0.44999998807907104;
    - 0.15000000000000002, which is what 3 * 0.05 gives, is 0.15: what is within 1e-12 of a number of six decimals
      (float32: 5e-7, four decimals) is that number, unless that is 1;
    - -0.0 is 0.0.

    Args:
        name: "minmax", "max", "pas", "ivr" or "ivr+pas".
        ivr: Percentile that IVR subtracts, a fraction in [0, 1); for "ivr" and "ivr+pas".
        pas: Percentile that PaS divides by, a fraction in [0, 1); for "pas" and "ivr+pas".

    Raises:
        ValueError: An unknown name, a percentile that is missing, superfluous, no real number or outside [0, 1).
    """

    name: str
    ivr: float | None = None
    pas: float | None = None

    def __post_init__(self):
        if not isinstance(self.name, str) or self.name not in _FORMULAS:
            raise ValueError(f"normalization {self.name!r}: expected one of {', '.join(_FORMULAS)}")
        object.__setattr__(self, "name", str(self.name))
        for part in ("ivr", "pas"):
            value, wanted = getattr(self, part), part in self.name.split("+")
            if (value is not None) != wanted:
                needs = "needs" if wanted else "takes no"
                raise ValueError(f"normalization {self.name!r} {needs} percentile {part!r}, found {value!r}")
            if value is not None:
                object.__setattr__(self, part, _percentile(self.name, value))

    @classmethod
    def parse(cls, text: "str | Normalization") -> "Normalization":
        """The normalization a string names: ``minmax``, ``max``, ``pas:0.9``, ``ivr:0.45``, ``ivr:0.45+pas:0.9``."""
        if isinstance(text, Normalization):
            return text
        match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
        expected = "expected minmax, max, pas:P, ivr:P or ivr:P+pas:P with fractions P in [0, 1), as in ivr:0.45"
        if match is None:
            raise ValueError(f"normalization {text!r}: {expected}")
        name, p, q = match["name"], match["p"], match["q"]
        try:
            p, q = (None if part is None else _number(part) for part in (p, q))
        except ValueError:
            raise ValueError(f"normalization {text!r}: {expected}") from None
        if name == "ivr" and q is not None:
            return cls("ivr+pas", ivr=p, pas=q)
        if q is not None or (p is None) == (name in ("pas", "ivr")):
            raise ValueError(f"normalization {text!r}: {expected}")
        return cls(name, **({} if p is None else {name: p}))

    def __str__(self) -> str:
        return "+".join(
            part if getattr(self, part, None) is None else f"{part}:{getattr(self, part)!r}"
            for part in self.name.split("+")
        )

    @property
    def formula(self) -> str:
        """The formula in the paper's terms, per standing for the order statistic at int(n * p) of n pixels."""
        percent = {"p": self.ivr if self.ivr is not None else self.pas, "q": self.pas}
        return _FORMULAS[self.name][0].format(**percent)

    @property
    def equation(self) -> str:
        """Where the paper (arXiv 2107.13221) defines it."""
        return _FORMULAS[self.name][1]

    def ranks(self, num_pixels: int) -> tuple[int, int]:
        """Which order statistics give offset and divisor on a map of ``num_pixels``: see the table above.

        Returns:
            (offset rank, divisor rank): an index into the sorted map, RANK_EXTREME or, for an offset, RANK_ZERO.
        """
        offset = RANK_ZERO if self.name == "max" else RANK_EXTREME
        divisor = RANK_EXTREME
        if self.ivr is not None:
            offset = int(num_pixels * self.ivr)
        if self.pas is not None:
            divisor = int(num_pixels * self.pas)
        return offset, divisor


def _number(text: str) -> float:
    """As ``float``, but for underscores and the digits of other scripts."""
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return float(text)


def _percentile(name: str, value: object) -> float:
    """A percentile as the Python float that it stands for; see :class:`Normalization`."""
    number = value[()] if type(value) is np.ndarray and value.ndim == 0 else value
    if not isinstance(number, (Real, Decimal)) or isinstance(number, (bool, np.timedelta64)):
        raise ValueError(f"normalization {name!r}: expected a real number as percentile, found {value!r}")
    narrow = isinstance(number, np.floating) and number.itemsize < 8
    try:
        found = float(str(number) if narrow else number)
    except (ValueError, OverflowError):  # a signaling NaN, 10**400
        found = math.nan
    decimals, distance = _SHORT.get(number.itemsize if narrow else 8, (0, 0))
    if 0 < abs(found) < 1 and abs((short := round(found, decimals)) - found) <= distance and short != 1:
        found = short
    if not 0 <= found < 1:
        raise ValueError(f"normalization {name!r}: percentile {value!r} is not a fraction in [0, 1)")
    return found + 0.0  # 0 of -0


def parse_all(normalizations: "str | Normalization | Iterable[str | Normalization]") -> tuple[Normalization, ...]:
    """Several normalizations as a tuple of values, at least one.

    A string names any number of them, separated by spaces or commas. In place of a percentile it may have a range
    FIRST..LAST/STEP: ``ivr:0.00..0.95/0.05`` is IVR at 0.0, 0.05, ..., 0.95, each the float64 nearest to its decimal
    number. With two ranges (``ivr:0..0.9/0.1+pas:0.8..0.9/0.1``) all pairs are meant.

    Raises:
        ValueError: There is none, one is not as :meth:`Normalization.parse` expects it, a range is empty or too long.
    """
    if isinstance(normalizations, (str, Normalization)):
        normalizations = (normalizations,)
    elif (
        type(normalizations) is tuple and normalizations and all(type(each) is Normalization for each in normalizations)
    ):
        return normalizations  # parsed before: an Evaluator passes them with every batch
    parsed: list[Normalization] = []
    for each in normalizations:
        parsed += _parse_text(str(each)) if isinstance(each, str) else [Normalization.parse(each)]
    if not parsed:
        raise ValueError("normalizations: expected at least one, found none")
    return tuple(parsed)


@lru_cache(maxsize=1024)  # the same few texts come with every map that is evaluated alone
def _parse_text(text: str) -> tuple[Normalization, ...]:
    """The normalizations that a text names, maybe none."""
    items = re.split(r"[,\s]+", text)
    return tuple(Normalization.parse(one) for item in items if item != "" for one in _expand(item))


def _expand(item: str, whole: str = "", most: int = _MOST_STEPS) -> list[str]:
    """An item without its ranges: once for each value of the first, and so on; of all together there are ``most``."""
    match = _RANGE.search(item)
    if match is None:
        return [item]
    whole = whole or item
    first, last, step = map(Decimal, match.groups())
    if step == 0 or last < first or (last - first) / step >= most:
        raise ValueError(
            f"normalization {whole!r}: expected a range FIRST..LAST/STEP of 1 to {_MOST_STEPS} percentiles "
            f"(several: of as many together), as in ivr:0.00..0.95/0.05"
        )
    num = int((last - first) / step) + 1
    texts = (f"{item[: match.start()]}{first + k * step}{item[match.end() :]}" for k in range(num))
    return [one for text in texts for one in _expand(text, whole, most // num)]
