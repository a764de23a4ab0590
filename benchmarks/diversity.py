"""
How different volumes for one mask are, beside volumes for different masks (Med-DDPM, Fig. 5).

    python -m benchmarks.diversity --out diversity

Draws ``--count`` volumes for one mask, seeds 0, 1, ..., and one for each of as many masks of the shape model. Of both
sets: MS-SSIM of pairs, and the standard deviation of each voxel over the set, in the units of images in [-1, 1], its
mean over all voxels and over those inside and outside of the labels of the one mask.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.moved_labels import ROOT, opened, read_mask
from common.masks.mask_set import mask_set
from common.metrics.base import centre_crop, common_size
from common.metrics.diversity import SetMSSSIM
from common.utils.files import written_whole


def measured(volumes: Sequence[Tensor], inside: Tensor | None = None) -> dict[str, Any]:
    """Entries of volumes (1, X, Y, Z) in [-1, 1], cropped in the middle to their common size for the deviation."""
    similarity = SetMSSSIM()
    for volume in volumes:
        similarity(volume[None])
    size = common_size(volumes)
    deviation = torch.stack([centre_crop(volume, size) for volume in volumes]).double().std(0)
    entries = {"ms_ssim": similarity.report(), "deviation": {"value": float(deviation.mean())}}
    if inside is not None:
        entries["deviation_inside"] = {"value": float(deviation[inside].mean())}
        entries["deviation_outside"] = {"value": float(deviation[~inside].mean())}
    return entries


def main() -> None:
    """Write ``diversity.json`` and print the values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["inference.json", "fast.json"], help="of med_ddpm_3d")
    parser.add_argument("--mask", help="label map; by default the bundle's first sample")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--out", default="diversity", help="folder")
    options = parser.parse_args()
    bundle, mask = opened("med_ddpm_3d", options.configs), read_mask("med_ddpm_3d", options.mask)
    drawn = [as_unit(bundle.generate(mask, seed=seed)) for seed in range(options.count)]
    with tempfile.TemporaryDirectory() as folder:
        paths = mask_set(folder, options.count, model=ROOT / "med_ddpm_3d" / "models" / "shape_model.npz")
        others = [as_unit(bundle.generate(read_mask("med_ddpm_3d", path), seed=0)) for path in paths]
    content = {"one mask": measured(drawn, mask.as_tensor() > 0), "different masks": measured(others)}
    with written_whole(Path(options.out) / "diversity.json") as temporary:
        temporary.write_text(json.dumps({"count": options.count, **content}, indent=4) + "\n")
    for name, entries in content.items():
        print(name, {key: round(entry["value"], 4) for key, entry in entries.items()})


def as_unit(volume: Tensor) -> Tensor:
    """A volume of the bundle, [0, 1000], in [-1, 1]."""
    return torch.as_tensor(volume).float().cpu() / 500 - 1


if __name__ == "__main__":
    main()
