"""Every GPU kernel compiles ahead of time for every architecture, and no thread spills registers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wsolkern import building

pytest.importorskip("triton")
from wsolkern.ops.gpu.launching import TRITON  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What `python -m benchmarks.compile_table` finds; in its own process, as this one may have Triton interpret."""
    file = tmp_path_factory.mktemp("table") / "rows.json"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.compile_table", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


def test_every_kernel_compiles_for_every_architecture(rows):
    kernels = {(row["kernel"], row["variant"]) for row in rows}
    found = {(row["kernel"], row["variant"], row["architecture"]) for row in rows}
    assert found == {(*kernel, architecture) for kernel in kernels for architecture in (80, 86, 89, 90, 100, 120)}
    assert len(rows) == len(found)
    sources = (file.read_text() for file in (ROOT / "wsolkern" / "ops" / "gpu").glob("*.py"))
    launched = {name for text in sources for name in re.findall(r"\blaunch\(\s*(_\w+)", text)}
    assert launched and {kernel.rpartition(".")[2] for kernel, _ in kernels} >= launched


def test_no_kernel_spills_registers(rows):
    """But for two to six numbers where Triton is 3.7: with more registers fewer blocks would be resident."""
    kernels = {"cutting._digitize", "histograms._count_scores"} if TRITON >= (3, 7) else set()
    spilling = [row for row in rows if row["spill_bytes"]]
    assert [row for row in spilling if row["kernel"] not in kernels or row["spill_bytes"] > 24] == []
    assert all(0 < row["registers"] <= 255 for row in rows)


def test_no_tile_goes_through_shared_memory(rows):
    """A tile whose layout Triton converts takes 8 bytes a pixel there, of 2,048; what is reduced over a block less."""
    kernels = {"_affine", "_level_image", "_digitize", "_count_scores"}
    of_tiles = [row for row in rows if row["kernel"].rpartition(".")[2] in kernels]
    assert {row["kernel"].rpartition(".")[2] for row in of_tiles} == kernels
    assert [row for row in of_tiles if row["shared_bytes"] > 2048] == []


def test_no_product_is_fused_with_a_sum(rows):
    assert [row for row in rows if row["fused"]] == []


def test_the_cuda_extension_is_built_for_every_architecture(rows):
    try:
        building.built_cuda()
    except ImportError as error:
        pytest.skip(f"{building.CUDA}: {error}")
    if os.environ.get("WSOLKERN_CUDA_ARCHS") != "all":
        pytest.skip("wsolkern._cuda may be built for the cards at hand only: WSOLKERN_CUDA_ARCHS is not all")
    found = {(row["kernel"], row["variant"], row["architecture"]) for row in rows if row["kernel"].startswith("trees.")}
    assert len(found) == 5 * 6
