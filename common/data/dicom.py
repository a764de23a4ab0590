"""DICOM images in and out: CR, DX, MR and Secondary Capture, one frame a file. pydicom is needed only here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .dicom_terms import REGIONS, VIEWS, image_type, safe_values
from .formats import AS_SHOWN
from .image_file import ImageFile, ImageHeader, Unsuitable

SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX for processing",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
}
_YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


def import_pydicom() -> Any:
    """pydicom; an ImportError that says how to get it where it is missing."""
    try:
        import pydicom
        import pydicom.uid
    except ImportError as error:
        raise ImportError("DICOM images need pydicom, which is optional: pip install pydicom.") from error
    return pydicom


def read_dicom_header(path: Path) -> ImageHeader:
    """
    Sides, affine and channels of a single-frame image; its pixels are not decoded.

    Raises:
        ImportError: without pydicom.
        Unsuitable: as ``read_dicom``.
    """
    source = import_pydicom().dcmread(str(path), stop_before_pixels=True)
    _check(path, source)
    shape = (int(source.Columns), int(source.Rows), 1)
    return ImageHeader(path, "dicom", shape, AS_SHOWN, int(source.get("SamplesPerPixel", 1)))


def read_dicom(path: Path) -> ImageFile:
    """
    A single-frame image, bright where it shows bright.

    Args:
        path: of the file.

    Returns:
        The image; values have the rescale of the file, turned over for MONOCHROME1 (the slope is negative then).

    Raises:
        ImportError: without pydicom.
        Unsuitable: for other images than those in ``SOP_CLASSES``, several frames, palettes and look-up tables.
    """
    pydicom = import_pydicom()
    source = pydicom.dcmread(str(path))
    _check(path, source)
    if "PixelData" not in source:
        raise Unsuitable(f"{path}: an image was expected, the file has no pixels.")
    stored = _pixels(path, source)
    if source.PhotometricInterpretation in _YBR and int(pydicom.__version__.split(".")[0]) < 3:
        from pydicom.pixel_data_handlers.util import convert_color_space  # pydicom 3 has done it

        stored = convert_color_space(stored, source.PhotometricInterpretation, "RGB")
    bits, signed = int(source.BitsStored), int(source.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope = float(source.get("RescaleSlope") or 1.0)
    inter = float(source.get("RescaleIntercept") or 0.0)
    if source.PhotometricInterpretation == "MONOCHROME1":
        slope, inter = -slope, inter + slope * (low + high)
    channels = stored[None] if stored.ndim == 2 else np.moveaxis(stored, -1, 0)
    values = (channels.astype(np.float64) * slope + inter).transpose(0, 2, 1)[..., None]
    image = ImageFile(path, "dicom", values, AS_SHOWN, stored.dtype, slope, inter, (low, high), stored.shape[:2])
    _leave_out_padding(image, source, stored)
    return image


def _pixels(path: Path, source: Any) -> np.ndarray:
    """The stored values; an ImportError that says what to install where nothing can decode them."""
    try:
        return np.asarray(source.pixel_array)
    except Exception as error:
        syntax = getattr(getattr(source, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is None or not syntax.is_compressed or _can_decode(syntax):
            raise
        needed = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        raise ImportError(f"{path}: nothing is installed that can decode {syntax.name}: {needed}.") from error


def _can_decode(syntax: Any) -> bool:
    try:
        from pydicom.pixels import get_decoder

        return bool(get_decoder(syntax).is_available)
    except (ImportError, NotImplementedError):  # pydicom before 3; a syntax that nothing decodes
        return False


def _leave_out_padding(image: ImageFile, source: Any, stored: np.ndarray) -> None:
    """Give pixels in which nothing was measured the smallest measured value, and note where they are."""
    if "PixelPaddingValue" not in source or stored.ndim != 2:
        return
    span = 2 ** int(source.BitsAllocated)
    ends = [int(source.get(name, source.PixelPaddingValue)) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    signed = int(source.PixelRepresentation)
    ends = [(end + span // 2 * signed) % span - span // 2 * signed for end in ends]  # some write -1 for 65535
    padding = ((stored >= min(ends)) & (stored <= max(ends))).T[..., None]
    if padding.any() and not padding.all():
        image.values[0][padding] = image.values[0][~padding].min()
        image.extra["padding"], image.padding = ends[0], padding


def _check(path: Path, source: Any) -> None:
    kind = str(source.get("SOPClassUID", ""))
    if kind not in SOP_CLASSES:
        names = ", ".join(SOP_CLASSES.values())
        raise Unsuitable(f"{path}: {names} was expected, got SOP class {kind or 'none'} ({source.get('Modality')}).")
    if int(source.get("NumberOfFrames") or 1) != 1:
        raise Unsuitable(f"{path}: one frame was expected, got {source.NumberOfFrames}; export them one by one.")
    if source.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2", "RGB", *_YBR):
        found = source.PhotometricInterpretation
        raise Unsuitable(f"{path}: MONOCHROME1, MONOCHROME2, RGB or YBR was expected, got {found}.")
    if "ModalityLUTSequence" in source:
        raise Unsuitable(f"{path}: RescaleSlope and RescaleIntercept were expected, got a ModalityLUTSequence.")


def write_dicom(
    path: str | Path,
    pixels: np.ndarray,
    source_path: str | Path,
    record: Mapping[str, Any],
    description: str,
    rescale: tuple[float, float] | None = None,
) -> None:
    """
    Write a new instance, derived and marked as synthetic, whose attributes are a chosen few of its source's.

    Nothing that is not listed is taken over, so that no name, date or private entry comes along. Study and series are
    new, the same for all files of a run (``record["run"]``) whose sources share theirs.

    Args:
        path: of the new file.
        pixels: (rows, columns), stored values, of the source's dtype; more of them than the source has make the
            pixels finer.
        source_path: the image that it was made from.
        record: provenance, see ``provenance``.
        description: of how the pixels were derived, one line.
        rescale: slope and intercept of an unsigned map in MONOCHROME2; None for the source's own.
    """
    pydicom = import_pydicom()
    source = pydicom.dcmread(str(source_path), stop_before_pixels=True)
    new = pydicom.dataset.Dataset()
    dx_map = rescale is not None and SOP_CLASSES[str(source.SOPClassUID)].startswith("DX")
    new.SOPClassUID = (
        _SECONDARY_CAPTURE if dx_map else source.SOPClassUID
    )  # the pixels of DX have no other slope than 1
    for name, value in safe_values(source).items():
        setattr(new, name, value)
    _add_identity(pydicom, new, source, record)
    _add_origin(pydicom, new, source, record, description)
    _add_pixels(new, source, pixels, rescale)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = new.SOPClassUID
    meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.UID(_EXPLICIT_LITTLE_ENDIAN)
    new.file_meta = meta
    if int(pydicom.__version__.split(".")[0]) >= 3:
        pydicom.dcmwrite(str(path), new, enforce_file_format=True)
    else:
        new.is_little_endian, new.is_implicit_VR = True, False
        pydicom.dcmwrite(str(path), new, write_like_original=False)


def _add_identity(pydicom: Any, new: Any, source: Any, record: Mapping[str, Any]) -> None:
    """New UIDs and no patient."""
    run = str(record.get("run", ""))
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if name != "FrameOfReferenceUID" or name in source:
            # without the run's own random part, the old UIDs could be found again by trying
            entropy = [run, name, str(source.get(name, "")), str(record.get("map")) if "Series" in name else ""]
            setattr(new, name, pydicom.uid.generate_uid(entropy_srcs=entropy if run else None))
    new.SOPInstanceUID = pydicom.uid.generate_uid()
    new.PatientName = new.PatientID = "SYNTHETIC"
    new.PatientIdentityRemoved = "YES"
    new.DeidentificationMethod = "Built anew from attributes of pixels and geometry"
    new.DeidentificationMethodCodeSequence = [_code(pydicom, "113100", "Basic Application Confidentiality Profile")]
    new.LongitudinalTemporalInformationModified = "REMOVED"
    for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(new, name, "")
    new.StudyID = new.AccessionNumber = ""
    new.SeriesNumber = 1
    if "InstanceNumber" not in new:
        new.InstanceNumber = 1
    for name, value in _required(pydicom, new).items():
        if name not in new:
            setattr(new, name, value)


def _required(pydicom: Any, new: Any) -> dict[str, Any]:
    """Attributes that an image of the kind must have, empty where they may be."""
    kind = SOP_CLASSES[str(new.SOPClassUID)]
    needed: dict[str, Any] = {"PatientOrientation": ""}
    if not kind.startswith("DX") and "BodyPartExamined" not in new:
        needed["Laterality"] = ""
    if kind == "CR":
        needed |= {"BodyPartExamined": "", "ViewPosition": ""}
    elif kind == "MR":
        needed |= {"ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": ""}
        needed |= {"RepetitionTime": "", "EchoTime": "", "EchoTrainLength": "", "SliceThickness": ""}
        needed |= {"PositionReferenceIndicator": ""}
    elif kind.startswith("DX"):
        region = REGIONS.get(str(new.get("BodyPartExamined", "")))
        view = VIEWS.get(str(new.get("ViewPosition", "")))
        codes = [[_code(pydicom, *code, "SCT")] if code else [] for code in (region, view)]
        needed |= {"AcquisitionContextSequence": [], "AnatomicRegionSequence": codes[0], "PositionerType": ""}
        needed |= {"ViewCodeSequence": codes[1]} if view else {}
        needed |= {"ImageLaterality": "U", "DetectorType": "", "PresentationLUTShape": "IDENTITY"}
        needed |= {"LossyImageCompression": "00"}
        needed |= {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1, "RescaleType": "US"}
        needed |= {"PresentationIntentType": kind.removeprefix("DX ").upper(), "RescaleSlope": 1, "RescaleIntercept": 0}
    elif kind == "Secondary Capture":
        needed["ConversionType"] = "WSD"
    return needed


def _add_origin(pydicom: Any, new: Any, source: Any, record: Mapping[str, Any], description: str) -> None:
    """What the image is and what made it."""
    new.SpecificCharacterSet = "ISO_IR 192"
    new.ImageType = image_type(source, SOP_CLASSES[str(new.SOPClassUID)])
    new.add_new(0x0008001C, "CS", "YES")  # SyntheticData, a name that pydicom 2 does not know
    new.SeriesDescription = f"SYNTHETIC {record.get('bundle', '')} {record.get('map', '')}".strip()
    new.ImageComments = "SYNTHETIC: restored by a generative model, not for diagnosis"
    new.DerivationDescription = description[:1024]
    new.Manufacturer = "conditional-diffusion-bundles"
    new.ManufacturerModelName = str(record.get("bundle", ""))
    new.SoftwareVersions = str(record.get("version") or "")
    equipment = pydicom.dataset.Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code(pydicom, "109102", "Processing Equipment")]
    equipment.Manufacturer = new.Manufacturer
    equipment.ManufacturerModelName = new.ManufacturerModelName
    equipment.SoftwareVersions = new.SoftwareVersions
    equipment.ContributionDescription = description[:1024]
    new.ContributingEquipmentSequence = [equipment]


def _add_pixels(new: Any, source: Any, pixels: np.ndarray, rescale: tuple[float, float] | None) -> None:
    rows, columns = pixels.shape
    _add_geometry(new, source, rows, columns)
    new.SamplesPerPixel = 1
    new.PhotometricInterpretation = "MONOCHROME2"
    if source.PhotometricInterpretation == "MONOCHROME1" and rescale is None:
        new.PhotometricInterpretation = "MONOCHROME1"
    if rescale is not None:
        largest = rescale[0] * (2 ** int(source.BitsStored) - 1) or 1.0  # a slope of 0 is no slope
        new.RescaleSlope, new.RescaleIntercept = (f"{value:.10g}" for value in (rescale[0] or 1.0, rescale[1]))
        new.RescaleType, new.PresentationLUTShape = "US", "IDENTITY"
        new.WindowCenter, new.WindowWidth = f"{largest / 2:.10g}", f"{largest:.10g}"
        for name in ("VOILUTFunction", "PixelPaddingValue", "PixelPaddingRangeLimit"):
            if name in new:
                delattr(new, name)
    new.Rows, new.Columns = rows, columns
    new.BitsAllocated, new.BitsStored, new.HighBit = source.BitsAllocated, source.BitsStored, source.HighBit
    new.PixelRepresentation = source.PixelRepresentation
    new.PixelData = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    if len(new.PixelData) % 2:
        new.PixelData += b"\0"
    new["PixelData"].VR = "OB" if new.BitsAllocated <= 8 else "OW"


def _add_geometry(new: Any, source: Any, rows: int, columns: int) -> None:
    """Finer pixels over the same field: their size, and the centre of the first of them."""
    finer = (int(source.Rows) / rows, int(source.Columns) / columns)
    if finer == (1.0, 1.0):
        return
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        if name in new:
            setattr(new, name, [f"{float(size) * f:.10g}" for size, f in zip(source.get(name), finer)])
    if all(name in source for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")):
        across, down = np.reshape([float(v) for v in source.ImageOrientationPatient], (2, 3))
        height, width = (float(v) for v in source.PixelSpacing)
        first = np.array([float(v) for v in source.ImagePositionPatient])
        first = first + across * width * (finer[1] - 1) / 2 + down * height * (finer[0] - 1) / 2
        new.ImagePositionPatient = [f"{value:.10g}" for value in first]


def _code(pydicom: Any, value: str, meaning: str, scheme: str = "DCM") -> Any:
    code = pydicom.dataset.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
