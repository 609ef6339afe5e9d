"""Normalizations are parsed from strings and print as them."""

import copy
import math
import pickle
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    "value",
    [0.45, np.float64(0.45), np.float32(0.45), np.float16(0.45), np.longdouble(0.45), np.array(0.45), Fraction(9, 20)]
    + [Decimal("0.45"), np.array(0.45, np.float32), 0.45 + 2**-54, np.nextafter(0.45, 0), 0.450000000000001],
    ids=repr,
)
def test_any_real_number_is_a_percentile(value):
    made = Normalization("pas", pas=value)
    assert str(made) == "pas:0.45" and type(made.pas) is float and made.pas == 0.45
    assert made == Normalization.parse("pas:0.45") and hash(made) == hash(Normalization.parse("pas:0.45"))


@pytest.mark.parametrize("value", [0, -0.0, np.int8(0), np.float32(-0.0), Decimal("-0"), Fraction(0), 5e-324, -2.8e-17])
def test_there_is_one_zero(value):
    made = Normalization("ivr", ivr=value)
    assert str(made) == "ivr:0.0" and math.copysign(1, made.ivr) == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("step", [0.05, 0.01, 0.001])
def test_steps_are_decimal_numbers(step, dtype):
    expected = [f"ivr:{each}" for each in np.arange(0, 1, step).round(3).tolist()]
    accumulated, sums = dtype(0), []
    for _ in expected:
        sums.append(accumulated)
        accumulated += dtype(step)
    if dtype == np.float64 or step > 0.01:  # float32 loses too much on the way
        assert [str(Normalization("ivr", ivr=each)) for each in sums] == expected
    assert [str(Normalization("ivr", ivr=each)) for each in np.arange(0, 1, step, dtype)] == expected
    assert str(Normalization("ivr", ivr=np.arange(0.3, 0.9, 0.001)[-1])) in ("ivr:0.899", "ivr:0.9")


def test_published_steps_keep_their_order_statistics():
    for step in (0.05, 0.01, 0.001):
        for each in np.arange(0, 1, step).tolist():
            assert Normalization("ivr", ivr=each).ranks(224 * 224)[0] == int(224 * 224 * each)
    # What is printed is what is computed with: 29 % of 100 pixels are 28 pixels in float64.
    assert Normalization("ivr", ivr=Fraction(29, 100)).ranks(100)[0] == int(100 * 0.29) == 28


@pytest.mark.parametrize("value", [1 / 3, 1 / 7, 0.123456789, 1 - 2**-53, 0.45 + 2e-12, np.float32(0.1234)])
def test_other_numbers_stay_as_they_are(value):
    assert Normalization("ivr", ivr=value).ivr == float(str(value))


@pytest.mark.parametrize("value", [True, False, np.True_, "0.45", b"0", 0.1j, [0.4], np.array([0.4]), np.ma.masked])
def test_what_is_no_real_number_is_no_percentile(value):
    with pytest.raises(ValueError, match="normalization 'ivr': expected a real number as percentile, found"):
        Normalization("ivr", ivr=value)


@pytest.mark.parametrize(
    "value", [math.nan, np.float32("nan"), Decimal("NaN"), Decimal("sNaN"), math.inf, 1, 10**400, -1e-9, Fraction(1)]
)
def test_a_percentile_is_in_range(value):
    with pytest.raises(ValueError, match="normalization 'pas': percentile .* is not a fraction"):
        Normalization("pas", pas=value)


@pytest.mark.parametrize("name", [None, 3, ["ivr"], b"max"])
def test_a_name_is_a_string(name):
    with pytest.raises(ValueError, match="expected one of minmax"):
        Normalization(name)


@pytest.mark.parametrize("text", ["ivr:0.4_5", "ivr:٠.٤٥", "ivr:0x0", "ivr:0..1"])
def test_percentiles_are_written_in_ascii(text):
    with pytest.raises(ValueError, match="expected minmax, max, pas:P"):
        Normalization.parse(text)


_fractions = st.one_of(
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True, width=32).map(np.float32),
    st.floats(0, 1, exclude_max=True, width=16).map(np.float16),
    st.integers(0, 999).map(lambda k: k * 0.001),
    st.fractions(0, Fraction(999, 1000)),
    st.decimals(0, Decimal("0.999"), allow_nan=False),
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(first=_fractions, second=_fractions)
def test_all_that_can_be_made_is_read_back(first, second):
    for made in (
        Normalization("ivr", ivr=first),
        Normalization("pas", pas=first),
        Normalization("ivr+pas", ivr=first, pas=second),
    ):
        assert Normalization.parse(str(made)) == made and str(Normalization.parse(str(made))) == str(made)
        assert parse_all(str(made)) == (made,)
        assert copy.copy(made) == made == pickle.loads(pickle.dumps(made))
        for value, given_as in ((made.ivr, first), (made.pas, second if made.ivr is not None else first)):
            assert value is None or (0 <= value < 1 and abs(value - float(given_as)) < 1e-3)


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
    ["ivr:0.5..0.1/0.1", "ivr:0..0.9/0", "ivr:0..0.9/0.00001", "ivr:0..1/0.5", "ivr:0..0.9", "max:0..0.9/0.1", " , "]
    + ["ivr:0..0.9/0.001+pas:0..0.9/0.001", "0..9/.01" * 5],  # of a million, and of more than memory holds
)
def test_parse_all_refuses_bad_ranges(text):
    with pytest.raises(ValueError, match="normalization"):
        parse_all(text)
