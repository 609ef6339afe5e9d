"""The notebooks of the documentation: what is stored in them is what they give.

In: docs/notebooks. Out: their outputs, executed in a folder of their own; WSOLKERN_STORE_NOTEBOOKS=1 stores these.
Source: none.
"""

import json
import os
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def outputs(content: dict) -> list[list[tuple[str, ...]]]:
    """Of each cell of code, what kinds of output it has."""
    return [
        [(each["output_type"], *sorted(each.get("data", ()))) for each in cell["outputs"]]
        for cell in content["cells"]
        if cell["cell_type"] == "code"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_and_name_no_machine(path):
    content = json.loads(path.read_text())
    found = outputs(content)
    assert found[-1] and not [each for cell in found for each in cell if each[0] == "error"]
    assert [cell["execution_count"] for cell in content["cells"] if cell["cell_type"] == "code"] == [
        *range(1, len(found) + 1)
    ]
    assert not re.search(r"/(tmp|home|root|work|Users|usr)/", path.read_text())
    frames = [each["data"]["text/html"] for cell in content["cells"] for each in cell.get("outputs", ())
              if "text/html" in each.get("data", ())]  # fmt: skip
    assert any("<iframe" in "".join(each) for each in frames)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    for name in ("ipykernel", "efficientnet_lite_pytorch", "sklearn"):
        pytest.importorskip(name, reason="needs the extras notebook and demo")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra notebook")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra notebook")
    notebook = nbformat.read(path, as_version=4)
    stored = outputs(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    if os.environ.get("WSOLKERN_STORE_NOTEBOOKS"):
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times
        notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(notebook, path)
        return
    assert outputs(notebook) == stored
