"""What is fuzzed is whole to begin with, and damage to it is refused by name; atheris looks further, see __main__.py.

In: the seeds of each target; some bytes changed, left out and repeated. Out: accepted, or refused as documented.
Source: none.
"""

import random

import pytest
from shared import slow_but

from tests.fuzzing.targets import targets

NEEDS = {"import-coco-masks": "pycocotools", "run-lengths": "pycocotools"}  # for polygons


@pytest.fixture(params=targets())
def target(request):
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    return targets()[request.param]


def test_seeds_are_accepted(target, tmp_path):
    for place, content in enumerate(target.seeds()):
        assert target(tmp_path / str(place), content), f"seed {place} is refused"


def damaged(content: bytes, draws: random.Random) -> bytes:
    """Some bytes changed, a piece left out or repeated, or the end cut off."""
    start, stop = sorted(draws.randrange(len(content) + 1) for _ in range(2))
    stop = min(stop, start + 40)
    return draws.choice(
        [
            content[:start] + draws.randbytes(stop - start) + content[stop:],
            content[:start] + content[stop:],
            content[:stop] + content[start:],
            content[:start],
            content[:start] + draws.choice([b"9", b"-", b"\xff", b"1e999", b"null", b"\n", b","]) + content[stop:],
        ]
    )


@pytest.mark.parametrize("num", slow_but([6], [6, 40]))
@pytest.mark.filterwarnings("ignore")
def test_damage_is_refused_by_name(target, tmp_path, num, draws):
    seeds = target.seeds()
    for _ in range(num):
        target(tmp_path, damaged(draws.choice(seeds), draws))
