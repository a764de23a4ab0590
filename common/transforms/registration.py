"""Registration of volumes to a template, by SimpleITK."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple_rep

from ..utils.packages import import_optional

KINDS = {"rigid": "Euler3DTransform", "similarity": "Similarity3DTransform", "affine": "AffineTransform"}
"""Kind of the transform and its class in SimpleITK: 6, 7 or 12 parameters."""

_LPS = np.diag([-1.0, -1.0, 1.0])  # SimpleITK's world, ours is RAS
_MODES = {"bilinear": "sitkLinear", "nearest": "sitkNearestNeighbor"}


class RegisterToTemplated(MapTransform):
    """
    Bring volumes onto the grid of a template: one linear transform, found for the first key, and one interpolation.

    Mattes' mutual information, so that the contrasts may differ; three resolutions; from the centres of mass. One
    thread and a seed, so that the same volumes give the same result.

    Args:
        keys: volumes (1, X, Y, Z) of one case; the first is compared with the template.
        template_key: the template, (1, X, Y, Z).
        kind: of the transform, one of ``KINDS``.
        mode: "bilinear" or "nearest", for each key.
        seed: of the voxels that are compared, 5 % of all.

    Raises:
        ImportError: without SimpleITK.
        ValueError: for another kind.

    Source: Mattes et al. 2003 (mutual information); Med-DDPM, section III.B (registration before training).

    >>> RegisterToTemplated("image", "template", kind="bent")
    Traceback (most recent call last):
    ValueError: kind must be one of ['rigid', 'similarity', 'affine'], got 'bent'.
    """

    def __init__(
        self,
        keys: KeysCollection,
        template_key: str = "template",
        kind: str = "rigid",
        mode: str | Sequence[str] = "bilinear",
        seed: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {list(KINDS)}, got {kind!r}.")
        self.template_key, self.kind, self.seed = template_key, kind, seed
        self.modes = ensure_tuple_rep(mode, len(self.keys))
        self.sitk = import_optional("SimpleITK", "Registration", "pip install -r requirements-registration.txt")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data`` with the volumes on the grid of the template, outside of them 0."""
        result = dict(data)
        fixed = self._image(data[self.template_key])
        found: Any = None
        for key, mode in self.key_iterator(result, self.modes):
            moving = self._image(data[key])
            found = self._transform(fixed, moving) if found is None else found
            moved = self.sitk.Resample(moving, fixed, found, getattr(self.sitk, _MODES[mode]), 0.0)
            values = torch.from_numpy(self.sitk.GetArrayFromImage(moved).T.copy())[None]
            result[key] = MetaTensor(values.to(data[key].dtype), affine=data[self.template_key].affine)
            result[key].meta["filename_or_obj"] = data[key].meta.get("filename_or_obj", key)
        return result

    def _image(self, volume: MetaTensor) -> Any:
        affine = np.asarray(volume.affine, dtype=np.float64)
        sides = np.linalg.norm(affine[:3, :3], axis=0)
        image = self.sitk.GetImageFromArray(volume.as_tensor()[0].float().numpy().T)
        image.SetSpacing(sides.tolist())
        image.SetOrigin((_LPS @ affine[:3, 3]).tolist())
        image.SetDirection((_LPS @ (affine[:3, :3] / sides)).flatten().tolist())
        return image

    def _transform(self, fixed: Any, moving: Any) -> Any:
        kind = getattr(self.sitk, KINDS[self.kind])
        empty = kind(3) if self.kind == "affine" else kind()
        start = self.sitk.CenteredTransformInitializer(
            fixed, moving, empty, self.sitk.CenteredTransformInitializerFilter.MOMENTS
        )
        method = self.sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.05, self.seed + 1)  # 0 means the clock
        method.SetInterpolator(self.sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
        method.SetInitialTransform(start, inPlace=False)
        return method.Execute(fixed, moving)
