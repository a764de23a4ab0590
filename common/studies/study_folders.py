"""A study's images as flat folders that ``common.metrics`` reads: ``python -m common.studies.study_folders --help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..data.lists import Case, image_cases
from .study import copies_of_sample, study_sets
from .synthetic import synthetic_cases


def study_folders(
    dataset_dir: str | Path,
    out: str | Path,
    synthetic_dir: str | Path | None = None,
    group_by: str | None = None,
    split: str = "random",
    fraction: float = 0.2,
    seed: int = 0,
    every: int = 1,
) -> dict[str, int]:
    """
    Link the sample, the real images unlike any of it, and the generated ones into a folder each; print their numbers.

    Args:
        dataset_dir: real images, see ``image_cases``.
        out: new folder for "sample", "real" and, with ``synthetic_dir``, "synthetic"; links named <class>_<file>.
        synthetic_dir: a complete synthetic set.
        group_by: column of the manifest that joins near copies; those of sample images are left out of "real".
        split: "random" or "group", as the diffusion model was trained; "group" needs ``group_by``.
        fraction: of the real images of each class, the sample; as the diffusion model was trained.
        seed: of the sample; as the diffusion model was trained.
        every: n, to link every n-th image of "real" and "synthetic" only.

    Returns:
        Number of links in each folder.

    Raises:
        FileExistsError: when ``out`` is there.
        FileNotFoundError: for missing images, or a synthetic set that is not complete.
        ValueError: for wrong arguments, synthetic images among the real ones, changed synthetic ones, or two images
            that would get one name.
    """
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a whole number above 0, got {every!r}.")
    if Path(out).exists():
        raise FileExistsError(f"{out} is there already: give the name of a new folder.")
    sets = study_sets(image_cases(dataset_dir, group_by), train_on="real", split=split, fraction=fraction, seed=seed)
    sample, rest = sets["sample"], sets["test"]
    seen = copies_of_sample(rest, sample)
    folders = {
        "sample": sample,
        "real": [case for case, is_copy in zip(rest, seen) if not is_copy][::every],
    }
    if synthetic_dir is not None:
        folders["synthetic"] = synthetic_cases(synthetic_dir)[::every]
    links = {name: _links(cases) for name, cases in folders.items()}
    _print_counts(sample, rest, seen if group_by else None)
    for name, targets in links.items():
        Path(out, name).mkdir(parents=True)
        for link, target in targets.items():
            os.symlink(target, Path(out, name, link))
    return {name: len(targets) for name, targets in links.items()}


def _links(cases: Sequence[Case]) -> dict[str, Path]:
    links = {f"{case['class']}_{Path(case['image']).name}": Path(case["image"]).resolve() for case in cases}
    if len(links) < len(cases):
        raise ValueError(f"{len(cases)} images of the classes have only {len(links)} names: give them different ones.")
    return links


def _print_counts(sample: Sequence[Case], rest: Sequence[Case], seen: Sequence[bool] | None) -> None:
    print(f"class: sample, rest{', of the rest with a near copy in the sample' if seen else ''}")
    for name in [*sorted({case["class"] for case in rest}), "all"]:
        inside = [name in (case["class"], "all") for case in rest]
        counts = [sum(name in (case["class"], "all") for case in sample), sum(inside)]
        if seen:
            counts.append(sum(is_copy for is_copy, counted in zip(seen, inside) if counted))
        print(f"{name}: {', '.join(map(str, counts))}")


def main(command: Sequence[str] | None = None) -> None:
    """The command line; mistakes end it before any work."""
    parser = argparse.ArgumentParser(
        prog="python -m common.studies.study_folders", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("dataset_dir", help="folder of real images, in folders named after the classes")
    parser.add_argument("out", help='new folder for "sample", "real" and "synthetic"')
    parser.add_argument("--synthetic_dir", help="a complete synthetic set")
    parser.add_argument("--group_by", help="column of manifest.csv that joins near copies")
    parser.add_argument("--split", default="random", help="random (default) or group")
    parser.add_argument("--fraction", type=float, default=0.2, help="of each class, the sample (default: 0.2)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--every", type=int, default=1, help="n: every n-th real and synthetic image only")
    try:
        print(study_folders(**vars(parser.parse_args(command))))
    except (ValueError, OSError) as error:
        sys.exit(f"study_folders: {error}")


if __name__ == "__main__":
    main()
