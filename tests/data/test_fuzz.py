"""A thousand damaged files of each kind: none is read as something else, and every refusal names its file."""

from __future__ import annotations

import functools
import io
import logging
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from common.data.reader import image_header, read_image
from common.networks.weights import read_checkpoint
from tests.bundles.restoration_runs import MR, grey, write_dicom, write_picture
from tests.data.fuzz import BYTES, alike, as_nibabel_reads, changed, outcome
from tests.fixtures import oblique_affine, two_part_mask, write_nifti

HEADERS = {"nii": 352, "nii.gz": 0, "png": 60, "jpg": 200, "dcm": 900, "seg": 3500, "pt": 0}
SEGMENTS = {"anterior": 1, "posterior": 2}


def write_source(folder, kind):
    """A good file of a kind."""
    if kind in ("nii", "nii.gz"):
        return write_nifti(folder / f"source.{kind}", two_part_mask((12, 14, 10)), oblique_affine())
    if kind == "dcm":
        return write_dicom(folder / "source.dcm", grey((24, 20), np.int16, 2000) - 900, MR)
    if kind == "seg":
        pytest.importorskip("highdicom")
        from .test_dicom_volumes import segmentation

        return segmentation(folder / "source.seg", two_part_mask((12, 14, 10)), oblique_affine())
    if kind == "pt":
        torch.manual_seed(0)
        path = folder / "source.pt"
        torch.save(torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16)).state_dict(), path)
        return path
    return write_picture(folder / f"source.{kind}", grey((24, 20)))


def read_all(path):
    """The header, as every run asks for it first, then the image."""
    header = image_header(path)
    image = read_image(path)
    assert tuple(header.shape) == image.values.shape[1:], "header and image disagree"
    return image


def oracle(kind, source):
    """(read, same) for a changed file of a kind."""
    if kind == "pt":
        good = torch.load(source, weights_only=True)
        same = lambda found: list(found) == list(good) and all(torch.equal(found[k], good[k]) for k in good)  # noqa: E731
        return read_checkpoint, same
    if kind == "seg":  # of one bit a voxel, so that most changes are labels too
        return lambda path: read_image(path, SEGMENTS), lambda image: set(np.unique(image.values)) <= {0, 1, 2}
    good = read_image(source)
    if kind in ("nii.gz", "png"):
        return read_all, lambda image: alike(image.values, good.values) and np.allclose(image.affine, good.affine)
    return read_all, functools.partial(independently, kind)


def independently(kind, image):
    """Whether another reader gives the same."""
    if kind == "nii":
        return as_nibabel_reads(image.path, image.values, image.affine)
    if kind == "dcm":
        pydicom = pytest.importorskip("pydicom")
        source = pydicom.dcmread(io.BytesIO(image.path.read_bytes()))
        slope, inter = float(source.get("RescaleSlope") or 1), float(source.get("RescaleIntercept") or 0)
        values = source.pixel_array * slope + inter
        if source.PhotometricInterpretation == "MONOCHROME1" or "PixelPaddingValue" in source:
            return True
        return alike(image.values[0], values.T if values.ndim == 2 else values[..., 0].T)
    return np.isfinite(image.values).all()


def tried(tmp_path, kind, number, seed=0):
    """Outcome -> what was done, of so many changed files."""
    rng = np.random.default_rng(seed)
    source = write_source(tmp_path, kind)
    content, outcomes = source.read_bytes(), {}
    oracle(kind, source)[0](source)  # what is imported for it does not count
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    logging.disable(logging.CRITICAL)
    try:
        for index in range(number):
            change, data = changed(content, rng, HEADERS[kind])
            path = tmp_path / f"changed.{kind}"
            path.write_bytes(data)
            result = outcome(path, *oracle(kind, source))
            outcomes.setdefault(result, []).append(f"{index} ({change})")
    finally:
        logging.disable(logging.NOTSET)
        resource.setrlimit(resource.RLIMIT_AS, before)
    return outcomes


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_refused_by_name_or_read_right(tmp_path, kind):
    outcomes = tried(tmp_path, kind, 40, seed=1)
    assert set(outcomes) <= {"refused", "right"}, outcomes
    assert len(outcomes["refused"]) > 5


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.filterwarnings("ignore")
def test_a_thousand_damaged_files(tmp_path, kind):
    outcomes = tried(tmp_path, kind, 1000)
    print(kind, {name: len(found) for name, found in outcomes.items()})
    assert set(outcomes) <= {"refused", "right"}, {k: v[:3] for k, v in outcomes.items()}
