"""The notebooks of docs/examples, each executed from its first cell to its last on tiny data."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from tests.bundles.restoration_runs import write_picture
from tests.fixtures import REPOSITORY, write_dataset
from tests.masks.phantom2d import chest_picture

EXAMPLES = REPOSITORY / "docs" / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))


def settings_of(name, folder):
    """What stands for the settings of the first code cell."""
    if name == "masks_to_segmenter":
        data = write_dataset(folder / "data", 5)
        return {"DATA": str(data), "VOLUMES": 1, "STEPS": 1, "EPOCHS": 1}
    for index in range(2):
        write_picture(folder / "data" / f"x_{index}.png", chest_picture(40, seed=index))
    return {"FOLDER": str(folder / "data"), "SAMPLES": 2, "STEPS": 1}


WRITTEN = {
    "masks_to_segmenter": [
        "generated/manifest.csv",
        "real/segmenter.pt",
        "segmented/case_001_seg.nii.gz",
        "segmented.png",
    ],
    "xrays_to_report": ["denoised/report.html", "denoised/x_1_denoised_std.png", "overview.png"],
}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_to_its_end_and_has_no_outputs(name, tmp_path):
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), (
        "clear all outputs before you commit"
    )
    (place,) = [index for index, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    given = {**settings_of(name, tmp_path), "OUTPUT": str(tmp_path / "out")}
    lines = "\n".join(f"{key} = {value!r}" for key, value in given.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    assert [path for path in WRITTEN[name] if not (tmp_path / "out" / path).is_file()] == []
    shown = [data for cell in notebook.cells for out in cell.get("outputs", []) for data in out.get("data", {})]
    assert "image/png" in shown


def test_every_notebook_is_tested_and_on_the_page_of_pages():
    assert set(NAMES) == set(WRITTEN)
    index = (REPOSITORY / "docs" / "README.md").read_text()
    assert [name for name in NAMES if f"examples/{name}.ipynb" not in index] == []
