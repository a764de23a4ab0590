"""Pictures that configs ask for: a preview of each volume, and sheets of what an evaluator has sampled."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.config import KeysCollection
from monai.data import FolderLayout, MetaTensor
from monai.transforms import MapTransform
from PIL import Image

from ..data.image_file import describe
from ..data.names import OutputNames
from ..data.raster import write_png
from ..data.reader import read_image
from ..data.served import SERVED
from ..utils.files import written_whole
from .panels import image_panel
from .pictures import as_bytes, preview_figure, save_figure
from .scroll import slice_scroll
from .sheets import captioned, contact_sheet

_CAPTION = "Synthetic, epoch {epoch}. Early: noise or blur. Then shapes; detail last, as the rate falls."
_TITLES = {"image": "condition", "pred": "generated", "label": "real"}

logger = logging.getLogger(__name__)


class SavePreviewd(MapTransform):
    """
    Write a PNG beside each generated volume: three orthogonal slices, plain and with the condition's contours.

    The name is the one that ``SaveImaged`` with the same ``output_dir`` and ``output_postfix`` would use, with the
    ending .png. A volume whose metadata knows no file, or that MONAI Label asked for, is passed on unwritten.

    Args:
        keys: generated volumes, (C, X, Y, Z), of one case.
        mask_key: the condition, as ``preview_figure`` takes it; None or a missing key for no contours.
        output_dir: folder of the pictures; made where it is missing.
        output_postfix: after the file's stem and an underscore.
        labels: name -> value, for the legend.
        output_names: as in ``SaveImaged``; None for the file's own name.
        scroll: also write an animation through the slices, of the same name, ending in .webp.

    Example:
        >>> save = SavePreviewd("pred", mask_key="image", output_dir="previews", labels={"tumour": 1})
        >>> save({"pred": torch.zeros(1, 8, 8, 8)})["pred"].shape  # no file is known, nothing is written
        torch.Size([1, 8, 8, 8])
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str | None = None,
        output_dir: str | Path = "./",
        output_postfix: str = "preview",
        labels: Mapping[str, int] | None = None,
        output_names: OutputNames | None = None,
        scroll: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_names = output_names
        self.scroll = scroll
        self.mask_key = mask_key
        self.labels = dict(labels or {})
        self.layout = FolderLayout(str(output_dir), output_postfix, ".png", parent=False)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, unchanged."""
        result = dict(data)
        if SERVED in result:
            return result
        mask = result.get(self.mask_key) if self.mask_key else None
        for key in self.key_iterator(result):
            meta = {**_meta(mask), **_meta(result[key])}
            subject = meta.get("filename_or_obj")
            if not isinstance(subject, (str, Path)) or not str(subject):
                logger.debug("No preview of %s: its metadata names no file.", key)
                continue
            path = Path(self.layout.filename(subject=subject, idx=meta.get("patch_index")))
            if self.output_names is not None:
                path = path.parent / f"{self.output_names.of(subject)}_{self.layout.postfix}.png"
            save_figure(preview_figure(result[key], mask, labels=self.labels, title=f"{path.stem} (synthetic)"), path)
            if self.scroll:
                slice_scroll(result[key], path.with_suffix(".webp"), mask, "synthetic")
        return result


class SamplePreviews:
    """
    Write what an evaluator has sampled beside the real images, as a PNG and as a TensorBoard image.

    Args:
        output_dir: folder that ``name`` starts from.
        writer: a ``SummaryWriter``, or None.
        tag: of the TensorBoard image.
        name: of the PNG without its ending; ``{epoch}`` is filled in.
        max_cases: the first so many cases are shown; None for all.
        keys: of a case, in the order of the columns of ``contact_sheet``.
        mask_key: of what is outlined in every column; None for nothing.
        stacked: volumes are stacks of slices as in print, see ``contact_sheet``.
        titles: key -> title of its column.

    Example:
        >>> SamplePreviews("previews", name="epoch_{epoch:04d}", keys=["image", "pred", "label"]).path(7).name
        'epoch_0007.png'
    """

    def __init__(
        self,
        output_dir: str | Path,
        writer: Any = None,
        tag: str = "generated beside real",
        name: str = "previews/epoch_{epoch:04d}",
        max_cases: int | None = None,
        keys: Sequence[str] = ("pred", "label"),
        mask_key: str | None = None,
        stacked: bool = False,
        titles: Mapping[str, str] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.writer = writer
        self.tag = tag
        self.name = name
        self.max_cases = max_cases
        self.keys = tuple(keys)
        self.mask_key, self.stacked = mask_key, stacked
        self.titles = {**_TITLES, **(titles or {})}
        self.by_class = False
        self._cases: list[dict[str, Any]] = []
        self._epoch = 0

    def attach(self, engine: Engine) -> None:
        """Collect from ``engine``, a MONAI evaluator that decollates, and write at its end."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._cases.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def collect(self, engine: Any) -> None:
        """Keep the images of a decollated batch until the next evaluation."""
        batch = engine.state.batch
        known = isinstance(batch, list) and len(batch) == len(engine.state.output)
        for given, output in zip(batch if known else [{}] * len(engine.state.output), engine.state.output):
            kind = given.get("class") if self.by_class else None
            if self.max_cases is None or sum(case["class"] == kind for case in self._cases) < self.max_cases:
                keys = [*self.keys, *filter(None, [self.mask_key])]
                images = {key: torch.as_tensor({**given, **output}[key]).detach().cpu() for key in keys}
                self._cases.append({"class": kind, "name": str(given.get("case", "")), **images})

    def path(self, epoch: int) -> Path:
        """The PNG of an evaluation."""
        return self.output_dir / f"{self.name.format(epoch=epoch)}.png"

    def __call__(self, engine: Any) -> None:
        """Write the sheet of this evaluation."""
        epoch = self._epoch = engine.state.epoch
        if not self._cases:
            return
        self.draw(self.path(epoch))
        if self.writer is not None:
            with Image.open(self.path(epoch), formats=["PNG"]) as picture:
                self.writer.add_image(self.tag, np.asarray(picture.convert("RGB")), epoch, dataformats="HWC")
            self.writer.flush()

    def draw(self, path: Path) -> None:
        """Write the collected cases to ``path``."""
        columns = {self.titles.get(key, key): [case[key] for case in self._cases] for key in self.keys}
        contact_sheet(
            columns,
            path,
            caption=_CAPTION.format(epoch=self._epoch) if "{epoch" in self.name else "",
            names=[case["name"] for case in self._cases],
            masks=None if self.mask_key is None else [case[self.mask_key] for case in self._cases],
            stacked=self.stacked,
        )


class SampleSheet(SamplePreviews):
    """
    Write the images of an evaluator as one PNG, pixel by pixel, with the provenance in its header.

    Args:
        output_dir: folder of the PNG.
        keys: of a case; its images, (C, X, Y) each, stand beside one another.
        name: of the PNG without its ending; ``{epoch}`` is filled in.
        columns: images across; by default one case a row where a case has several images, or else a square.
        window: values shown black and white.
        max_cases: the first so many cases, or cases of each class, are shown; None for all.
        provenance: what made the images.
        by_class: a row for each class; the images are (1 or 3, rows, columns), grey or in colour.
        writer: a ``SummaryWriter``, or None.
        files: 8-bit images, one or several a case, that are shown instead of those sampled, once they are written: also
            those of earlier runs. With ``by_class`` the files of each class; those that are missing are left out.
        inputs: dataset of the cases of ``files``, whose images under the further ``keys`` stand beside them.
        heads: of the columns, taken in turns.
        title: written above all.

    Example:
        >>> SampleSheet("images", max_cases=8, by_class=True).path(1)
        PosixPath('images/contact_sheet.png')
    """

    def __init__(
        self,
        output_dir: str | Path,
        keys: Sequence[str] = ("pred",),
        name: str = "contact_sheet",
        columns: int | None = None,
        window: tuple[float, float] = (0, 1),
        max_cases: int | None = 64,
        provenance: Mapping[str, Any] | None = None,
        by_class: bool = False,
        writer: Any = None,
        files: Sequence[str | Path | Sequence[str]] | Mapping[str, Sequence[str | Path]] | None = None,
        inputs: Any = None,
        heads: Sequence[str] = (),
        title: str = "",
    ) -> None:
        super().__init__(output_dir, writer, "generated", name, max_cases, keys)
        self.heads, self.title = tuple(heads), title
        self.files, self.inputs = files, inputs
        self.columns = columns
        self.window = window
        self.provenance = dict(provenance or {})
        self.by_class = by_class

    def __call__(self, engine: Any) -> None:
        """Write the sheet of this evaluation."""
        if self.files is not None:
            self._cases = self._of_files(self.files)
        super().__call__(engine)

    def _of_files(self, files: Any) -> list[dict[str, Any]]:
        if isinstance(files, Mapping):
            there = {kind: list(filter(Path.exists, map(Path, paths))) for kind, paths in files.items()}
            return [
                {"class": kind, "pred": torch.from_numpy(read_image(path).values[..., 0].swapaxes(1, 2) / 255)}
                for kind, paths in there.items()
                for path in paths[: self.max_cases]
            ]
        cases = []
        for index, own in enumerate(files[: self.max_cases]):
            parts = [read_image(path).values[..., 0] / 255 for path in ([own] if isinstance(own, (str, Path)) else own)]
            given = {} if self.inputs is None else {key: self.inputs[index][key] for key in self.keys if key != "pred"}
            cases.append({"class": None, **given, "pred": torch.from_numpy(np.concatenate(parts))})
        return cases

    def draw(self, path: Path) -> None:
        """Write the collected cases to ``path``."""
        names = list(dict.fromkeys(case["class"] for case in self._cases)) if self.by_class else []
        sheet = captioned(self._rows(), [str(name) for name in names], self.heads, self.title)
        with written_whole(path) as temporary:
            write_png(temporary, sheet, {"Description": describe(self.provenance)})

    def _rows(self) -> list[list[np.ndarray]]:
        if self.by_class:
            rows: dict[str, list[np.ndarray]] = {}
            for case in self._cases:
                images = [as_bytes(image_panel(case[key], self.window, upright=True)) for key in self.keys]
                rows.setdefault(case["class"], []).extend(images)
            return list(rows.values())
        shown = [channel[None] for case in self._cases for key in self.keys for channel in case[key]]
        tiles = [as_bytes(image_panel(image, self.window)) for image in shown]
        each = len(tiles) // len(self._cases)
        across = self.columns or (each if each > 1 else math.ceil(math.sqrt(len(tiles))))
        return [tiles[start : start + across] for start in range(0, len(tiles), across)]


def _meta(item: Any) -> Mapping[str, Any]:
    return {k: v for k, v in item.meta.items() if v is not None} if isinstance(item, MetaTensor) else {}
