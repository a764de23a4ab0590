from __future__ import annotations

import re

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from common.masks.__main__ import main
from common.masks.phantom import head_mask_from_image, head_phantom


@pytest.mark.parametrize("size", [32, (40, 48, 36)])
def test_phantom_has_one_head_with_one_lesion_inside(size):
    for seed in range(3):
        mask = head_phantom(size, seed=seed)
        assert mask.shape == ((size,) * 3 if isinstance(size, int) else size)
        assert set(np.unique(mask)) == {0, 1, 2}
        assert [ndimage.label(part)[1] for part in (mask > 0, mask == 2)] == [1, 1]
        around = ndimage.binary_dilation(mask == 2) & (mask != 2)
        assert (mask[around] == 1).all()


def test_phantom_touches_the_lower_border_only():
    mask = head_phantom(48, seed=1)
    assert mask[:, :, 0].any()
    assert not any(face.any() for face in (mask[0], mask[-1], mask[:, 0], mask[:, -1], mask[:, :, -1]))


def test_phantom_depends_on_the_seed_alone_and_keeps_its_size_in_mm():
    np.testing.assert_array_equal(head_phantom(32, seed=4), head_phantom(32, seed=4))
    assert (head_phantom(32, seed=4) != head_phantom(32, seed=5)).any()
    litres = [(head_phantom(n, seed=4) > 0).sum() * (192 / n) ** 3 / 1e6 for n in (32, 64)]
    assert litres[0] == pytest.approx(litres[1], rel=0.03)
    assert 1.5 < litres[1] < 3.5


def test_healthy_phantom_has_no_lesion_and_the_same_head():
    healthy = head_phantom(32, seed=2, lesion=False)
    assert set(np.unique(healthy)) == {0, 1}
    np.testing.assert_array_equal(healthy > 0, head_phantom(32, seed=2) > 0)


def test_volume_too_small_for_a_head_is_refused():
    with pytest.raises(ValueError, match="192 mm"):
        head_phantom(64, spacing=1.0)
    with pytest.raises(ValueError, match="16 voxels"):
        head_phantom(8)


@pytest.fixture(scope="module")
def scan():
    mask = head_phantom(48, seed=3)
    rng = np.random.default_rng(0)
    skull = ndimage.binary_erosion(mask > 0) & ~ndimage.binary_erosion(mask > 0, iterations=2)
    image = np.where(mask > 0, 600.0, 20.0) * np.where(skull, 0.05, 1.0) + 15 * rng.standard_normal(mask.shape)
    image[20:24, 20:24, 20:24] = 0
    return image, mask


def test_head_of_an_image_bridges_bone_and_fills_holes(scan):
    image, mask = scan
    found = head_mask_from_image(image, mask == 2, spacing=(4, 4, 4))
    truth = mask > 0
    assert 2 * ((found > 0) & truth).sum() / ((found > 0).sum() + truth.sum()) > 0.97
    assert (found[20:24, 20:24, 20:24] > 0).all()
    np.testing.assert_array_equal(found == 2, mask == 2)


def test_lesion_of_another_grid_is_refused(scan):
    image, mask = scan
    with pytest.raises(ValueError, match="outside the head"):
        head_mask_from_image(image, mask == 0, spacing=(4, 4, 4))
    with pytest.raises(ValueError, match="one other value"):
        head_mask_from_image(image, mask[1:], spacing=(4, 4, 4))
    with pytest.raises(ValueError, match="finite"):
        head_mask_from_image(np.where(mask > 0, np.nan, 0.0))


def test_commands_write_the_grid_and_name_bad_files(scan, tmp_path, capsys):
    affine = np.diag([-4.0, 4, 4, 1])
    nib.save(nib.Nifti1Image(scan[0].astype(np.float32), affine), tmp_path / "scan.nii.gz")
    main(["head", "--image", str(tmp_path / "scan.nii.gz"), "--out", str(tmp_path / "mask.nii.gz")])
    written = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    assert set(np.unique(np.asanyarray(written.dataobj))) == {0, 1}
    main(["phantom", "--out", str(tmp_path / "heads"), "--size", "24", "--seed", "5", "--count", "2"])
    assert sorted(p.name for p in (tmp_path / "heads").iterdir()) == ["head_005.nii.gz", "head_006.nii.gz"]
    assert nib.load(tmp_path / "heads" / "head_005.nii.gz").header.get_zooms() == (8, 8, 8)
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "scan.nii.gz").read_bytes()[:2000])
    assert main(["head", "--image", str(tmp_path / "cut.nii.gz"), "--out", str(tmp_path / "no.nii.gz")]) == 2
    assert re.search(r"^error: .*cut\.nii\.gz: ", capsys.readouterr().err, re.MULTILINE)
    assert not (tmp_path / "no.nii.gz").exists()
