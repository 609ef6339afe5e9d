"""Normalizations are parsed from strings and print as them."""

import re

import pytest

from wsolkern import Normalization
from wsolkern.normalization import RANK_EXTREME, RANK_ZERO, parse_all


@pytest.mark.parametrize("text", ["minmax", "max", "pas:0.9", "ivr:0.45", "ivr:0.0", "ivr:0.45+pas:0.9", "pas:1e-05"])
def test_prints_as_it_was_parsed(text):
    normalization = Normalization.parse(text)
    assert str(normalization) == text
    assert Normalization.parse(str(normalization)) == normalization
    assert Normalization.parse(normalization) is normalization
    assert hash(normalization) == hash(Normalization.parse(text))


def test_spellings_of_the_same_number_are_equal():
    assert Normalization.parse(" ivr:.450 ") == Normalization.parse("ivr:0.45") == Normalization("ivr", ivr=0.45)
    assert str(Normalization.parse("ivr:.450+pas:9e-1")) == "ivr:0.45+pas:0.9"


@pytest.mark.parametrize(
    "text",
    ["", "min-max", "MINMAX", "minmax:0.5", "max:0", "pas", "ivr", "ivr:", "ivr:x", "ivr:0.4 5", "pas:0.9+ivr:0.45"]
    + ["ivr:0.45+pas", "max+pas:0.9", "pas:0.9+pas:0.9", 0.45, None, b"max"],
)
def test_what_is_no_normalization_is_named_in_the_error(text):
    with pytest.raises(ValueError, match="expected minmax, max, pas:P, ivr:P or ivr:P\\+pas:P") as error:
        Normalization.parse(text)
    assert str(error.value).startswith(f"normalization {text!r}: ")


@pytest.mark.parametrize("text", ["ivr:1", "ivr:1.0", "ivr:-0.1", "ivr:nan", "ivr:inf", "pas:90", "ivr:0.45+pas:1"])
def test_a_percentile_is_a_fraction(text):
    number = float(text.split(":")[-1])
    with pytest.raises(ValueError, match=f"percentile {number!r} is not a fraction"):
        Normalization.parse(text)


@pytest.mark.parametrize(
    "arguments",
    [("mean",), ("ivr",), ("ivr", None, 0.9), ("pas", 0.1, 0.9), ("max", 0.5), ("ivr+pas", 0.5), ("ivr", 1.0)],
)
def test_a_value_checks_itself(arguments):
    with pytest.raises(ValueError, match=re.escape(f"normalization {arguments[0]!r}")):
        Normalization(*arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("minmax", (RANK_EXTREME, RANK_EXTREME)),
        ("max", (RANK_ZERO, RANK_EXTREME)),
        ("pas:0.9", (RANK_EXTREME, int(50176 * 0.9))),
        ("ivr:0.45", (int(50176 * 0.45), RANK_EXTREME)),
        ("ivr:0.45+pas:0.9", (int(50176 * 0.45), int(50176 * 0.9))),
    ],
)
def test_ranks_truncate_the_product(text, expected):
    assert Normalization.parse(text).ranks(224 * 224) == expected


def test_ranks_never_leave_the_map():
    almost_one = Normalization("ivr", ivr=1 - 2**-53)
    assert all(almost_one.ranks(n)[0] < n for n in (*range(1, 2000), 4096 * 4096))


def test_formula_and_equation_name_the_percentiles():
    assert Normalization.parse("ivr:0.45").formula == "max(0, F - per0.45 F) / max(F - per0.45 F)"
    assert Normalization.parse("ivr:0.45").equation == "equation 6"
    both = Normalization.parse("ivr:0.45+pas:0.9")
    assert "per0.45" in both.formula and "per0.9" in both.formula


def test_parse_all():
    assert parse_all("max") == parse_all(["max"]) == (Normalization("max"),)
    assert [str(each) for each in parse_all(each for each in ("max", Normalization("minmax")))] == ["max", "minmax"]
    with pytest.raises(ValueError, match="at least one, found none"):
        parse_all([])
    with pytest.raises(ValueError, match="'ivr': percentile 2.0"):
        parse_all(["max", "ivr:2"])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ivr:0.00..0.95/0.05", [f"ivr:{percent / 100!r}" for percent in range(0, 96, 5)]),
        ("minmax, max\tpas:0.8..0.9/.1 max", ["minmax", "max", "pas:0.8", "pas:0.9", "max"]),
        ("ivr:0.1..0.3/0.15", ["ivr:0.1", "ivr:0.25"]),
        ("ivr:0.3..0.3/0.1", ["ivr:0.3"]),
        (
            "ivr:0..0.1/0.1+pas:0.8..0.9/0.1",
            ["ivr:0.0+pas:0.8", "ivr:0.0+pas:0.9", "ivr:0.1+pas:0.8", "ivr:0.1+pas:0.9"],
        ),
    ],
)
def test_parse_all_expands_ranges(text, expected):
    assert [str(each) for each in parse_all(text)] == expected
    assert parse_all([text, "max"]) == (*parse_all(text), Normalization("max"))


@pytest.mark.parametrize(
    "text",
    ["ivr:0.5..0.1/0.1", "ivr:0..0.9/0", "ivr:0..0.9/0.00001", "ivr:0..1/0.5", "ivr:0..0.9", "max:0..0.9/0.1", " , "],
)
def test_parse_all_refuses_bad_ranges(text):
    with pytest.raises(ValueError, match="normalization"):
        parse_all(text)
