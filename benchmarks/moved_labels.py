"""
A picture of one case with its labels in five places: the mask is moved, and a volume drawn for each (Med-DDPM, Fig. 4).

    python -m benchmarks.moved_labels --out moved_labels.png
    python -m benchmarks.moved_labels --bundle med_ddpm_brats --configs inference.json --labels 1 2 3 --parent 4 --by 20
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor

from common.bundle.configs import OpenedBundle, open_bundle
from common.data.reader import LoadImaged
from common.masks.editor import MoveLabelsd
from common.visualize.panels import slice_panels
from common.visualize.pictures import save_figure, sheet

ROOT = Path(__file__).resolve().parents[1] / "bundles"
PLACES = {
    "as it was": (0, 0, 0),
    "to the right": (1, 0, 0),
    "to the left": (-1, 0, 0),
    "to the front": (0, 1, 0),
    "upwards": (0, 0, 1),
}
"""Directions in RAS; each is a row of the picture."""


def opened(bundle: str, configs: Sequence[str]) -> OpenedBundle:
    """A bundle of this repository with its weights, drawing without a progress bar."""
    return open_bundle(ROOT / bundle, *configs, **{"inferer#progress": False})


def read_mask(bundle: str, mask: str | None) -> MetaTensor:
    """A label map (1, X, Y, Z), by default the bundle's sample."""
    path = mask or str(min((ROOT / bundle / "sample_data").glob("*.nii.gz")))
    return LoadImaged("mask", spatial_dims=3)({"mask": path})["mask"]


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="med_ddpm_3d", help="its name")
    parser.add_argument("--configs", nargs="+", default=["inference.json", "fast.json"])
    parser.add_argument("--mask", help="label map; by default the bundle's sample")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 2], help="that are moved as one piece")
    parser.add_argument("--parent", type=int, default=0, help="label around them")
    parser.add_argument("--by", type=float, default=5.0, help="mm")
    parser.add_argument("--channel", type=int, default=0, help="modality that is shown")
    parser.add_argument("--seed", type=int, default=0, help="the same for all, so that the noise is the same")
    parser.add_argument("--out", default="moved_labels.png")
    options = parser.parse_args()
    bundle, mask = opened(options.bundle, options.configs), read_mask(options.bundle, options.mask)
    rows = []
    for title, direction in PLACES.items():
        by = [options.by * step for step in direction]
        moved = MoveLabelsd("mask", options.labels, by=by, parent=options.parent)({"mask": mask})["mask"]
        volume = bundle.generate(moved, seed=options.seed)
        marked = MetaTensor(torch.where(torch.isin(moved, torch.tensor(options.labels)), moved, 0), moved.affine)
        panels = slice_panels(volume, marked)[options.channel]
        rows.append([panels[0]._replace(title=title), *panels[1:]])
    print(save_figure(sheet(rows, width=4.5), options.out))


if __name__ == "__main__":
    main()
