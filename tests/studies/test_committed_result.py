"""Results that are committed hold on this machine, with this interpreter and these versions: `wsolkern verify` says so.

In: two results, their data made anew. Out: all figures, curves and hashes made again are equal.
Source: tests/studies/committed.py, which wrote the results.
"""

import json
from pathlib import Path

import pytest
from committed import FILES, furnish
from typer.testing import CliRunner

from wsolkern.cli import app


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return furnish(tmp_path_factory.mktemp("data"))


def verified(root: Path, name: str, result: Path, code: int) -> dict:
    places = ["--maps", root / "maps", "--metadata", root / name]
    places += ["--mask-root", root] if name == "masks" else []
    done = CliRunner().invoke(app, ["verify", str(result), *map(str, places), "--json", "-"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", FILES)
def test_a_committed_result_holds(root, name):
    found = verified(root, name, Path(__file__).with_name(FILES[name]), 0)
    states = {each["what"].replace(str(root), "data"): each["state"] for each in found["checks"]}
    assert found["holds"] and states.pop("versions") in ("agrees", "noted")
    assert states[f"metadata data/{name}"] == states["maps data/maps"] == states["ivr:0.45"] == "agrees"
    assert {what for what, state in states.items() if state != "agrees"} <= {"masks data"}  # they have no hash


def test_another_bit_is_found(root, tmp_path):
    content = Path(__file__).with_name(FILES["boxes"]).read_text()
    figures = json.loads(content)
    figures["normalizations"][3]["box_accuracy"][1][4] += 2.5
    (tmp_path / "a.json").write_text(json.dumps(figures))
    found = verified(root, "boxes", tmp_path / "a.json", 1)
    wrong = [each["what"] for each in found["checks"] if each["state"] == "differs"]
    assert wrong == [figures["normalizations"][3]["normalization"]]
