"""The bundles on a GPU without float64, as Apple's are: they run there, and draw what the CPU draws."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from tests.bundles import vdm_runs
from tests.bundles.inference_runs import run_inference, save_tiny_weights
from tests.bundles.restoration_runs import DENOISE, INPAINT, SUPERRES, grey, restore, tiny_weights
from tests.bundles.training import train
from tests.fixtures import BUNDLE, two_part_mask, write_dataset, write_nifti
from tests.simulated_gpu import DOUBLE, simulated_gpu

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
GPU = "$torch.device('cuda')"


def draw(bundle: str, folder: Path, output: Path, **given: str) -> np.ndarray:
    """The values of what a tiny network writes for a mask or an image."""
    given |= {"output_dir": str(output)}
    if bundle == BUNDLE.name:
        mask = write_nifti(folder / "case.nii.gz", two_part_mask())
        run_inference(mask=str(mask), weights=str(save_tiny_weights(folder / "model.pt")), **given)
        return np.asanyarray(nib.load(output / "case_mr.nii.gz").dataobj)
    Image.fromarray(grey()).save(folder / "case.png")
    if bundle == INPAINT:
        Image.fromarray(np.pad(np.full((9, 9), 255, np.uint8), ((8, 13), (12, 23)))).save(folder / "hole.png")
        given["hole"] = str(folder / "hole.png")
    restore(bundle, image=str(folder / "case.png"), weights=tiny_weights(bundle, folder), **given)
    (path,) = (path for path in output.glob("case_*.png") if "sheet" not in path.name)
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("bundle", [BUNDLE.name, DENOISE, SUPERRES, INPAINT])
def test_what_is_drawn_is_that_of_the_cpu(bundle, tmp_path):
    wanted = draw(bundle, tmp_path, tmp_path / "cpu", device="$torch.device('cpu')")
    with simulated_gpu(lacks=DOUBLE):
        found = draw(bundle, tmp_path, tmp_path / "gpu", device=GPU)
    assert np.ptp(wanted) > 10
    np.testing.assert_allclose(found.astype(float), wanted.astype(float), atol=1)


def test_training_takes_no_float64(tmp_path):
    data = write_dataset(tmp_path / "data")
    with simulated_gpu(lacks=DOUBLE):
        run = train(data, tmp_path / "out", max_epochs=1, device=GPU, **{"train#prepare_batch#timestep_power": 2.0})
        assert all(value.is_cuda for value in run.parser.get_parsed_content("network").state_dict().values())
    pictures = vdm_runs.write_pictures(tmp_path / "pictures")
    with simulated_gpu(lacks=DOUBLE):
        vdm_runs.train(pictures, tmp_path / "vdm", device=GPU)
        sampled = vdm_runs.inference(tmp_path / "drawn", tmp_path / "vdm" / "model.pt", num_samples=1, device=GPU)
        sampled.run()
    assert len(list((tmp_path / "drawn").glob("sample_*.png"))) == 1
