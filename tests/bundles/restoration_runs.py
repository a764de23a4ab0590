"""Runs of the Med-cDiff inference configs in this process, with tiny networks, and images of every format."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from tests.bundles.inference_runs import TINY
from tests.fixtures import REPOSITORY
from tests.masks.phantom2d import head_slice

BUNDLES = {
    "med_cdiff_mri_superres": "sr",
    "med_cdiff_xray_denoise": "denoised",
    "med_cdiff_mri_inpaint": "inpainted",
}
SUPERRES, DENOISE, INPAINT = BUNDLES
AS_IS = {"inferer": "$lambda inputs, network: inputs[:, :1]"}
NO_SAMPLING = {"inferer": "$lambda inputs, network: (_ for _ in ()).throw(AssertionError('sampled'))"}
CR, MR = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.4"


def folder_of(bundle: str) -> Path:
    return REPOSITORY / "bundles" / bundle


def restoration(
    bundle: str, *overlays: str, direct: bool = False, tiny: bool = True, **overrides: Any
) -> ConfigWorkflow:
    """The workflow of inference.json and ``overlays``, with a tiny network, initialised; two steps unless direct."""
    files = [str(folder_of(bundle) / "configs" / name) for name in ("inference.json", *overlays)]
    given = {
        **(TINY if tiny else {}),
        **({} if direct else {"num_inference_steps": 2, "sampler#progress": False}),
        **overrides,
    }
    workflow = ConfigWorkflow(files, workflow_type="inference", logging_file=False, **given)
    workflow.initialize()
    return workflow


def restore(bundle: str, *overlays: str, **overrides: Any) -> None:
    """Initialise and run, as ``python -m monai.bundle run`` does."""
    restoration(bundle, *overlays, **overrides).run()


@functools.cache
def tiny_state(bundle: str, *overlays: str) -> dict[str, torch.Tensor]:
    """Weights of a tiny network that predicts more than 0."""
    torch.manual_seed(0)
    state = restoration(bundle, *overlays, direct=bool(overlays)).network_def.state_dict()
    return {name: value + 0.02 * torch.randn_like(value) for name, value in state.items()}


def tiny_weights(bundle: str, folder: Path) -> str:
    path = folder / f"{bundle}.pt"
    torch.save(tiny_state(bundle), path)
    return str(path)


def grey(shape: tuple[int, ...] = (30, 44), dtype: Any = np.uint8, high: int = 255, seed: int = 0) -> np.ndarray:
    """(rows, columns) of smooth noise over 0 to ``high``."""
    rng = np.random.default_rng(seed)
    coarse = rng.random([-(-side // 4) + 1 for side in shape])
    array = np.kron(coarse, np.ones([4] * len(shape)))[tuple(slice(side) for side in shape)]
    return np.rint((array - array.min()) / np.ptp(array) * high).astype(dtype)


def write_picture(path: Path, array: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    """Stored values of a file, of any format."""
    if ".nii" in path.name:
        return np.asanyarray(nib.load(path).dataobj.get_unscaled())
    if path.suffix in (".png", ".jpg"):
        return np.asarray(Image.open(path))
    import pydicom

    return pydicom.dcmread(path).pixel_array


def write_dicom(path: Path, array: np.ndarray, sop_class: str = CR, bits: int = 12, **tags: Any) -> Path:
    """A DICOM image of a named patient with a private entry; ``tags`` add to it or replace."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = sop_class, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.Modality = "MR" if sop_class == MR else "CR"
    image.PatientName, image.PatientID, image.StudyDate = "Doe^Jane", "4711", "20200101"
    image.add_new((0x0009, 0x0010), "LO", "Jane's clinic")
    image.Rows, image.Columns = array.shape[:2]
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated = 8 * array.dtype.itemsize
    image.BitsStored, image.HighBit = bits, bits - 1
    image.PixelRepresentation = int(array.dtype.kind == "i")
    image.PixelSpacing = [0.8, 1.2]
    for name, value in tags.items():
        setattr(image, name, value)
    image.PixelData = array.tobytes()
    image["PixelData"].VR = "OW" if array.dtype.itemsize == 2 else "OB"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    image.file_meta.MediaStorageSOPClassUID = sop_class
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    if int(pydicom.__version__[0]) >= 3:
        pydicom.dcmwrite(path, image, enforce_file_format=True)
    else:
        image.is_little_endian, image.is_implicit_VR = True, False
        pydicom.dcmwrite(path, image, write_like_original=False)
    return path


def write_two_classes(folder, number):
    """So many pictures of heads in two folders that are classes; returns ``folder``."""
    for index in range(number):
        name = ("glioma", "normal")[index % 2]
        write_picture(folder / name / f"{name}_{index}.png", head_slice(24, seed=index))
    return folder
