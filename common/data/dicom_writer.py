"""DICOM images out: new instances, marked as synthetic, built from a list of attributes, with or without a patient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .dicom import SOP_CLASSES, import_pydicom, is_dicom, padding_of, read_dataset
from .dicom_terms import REGIONS, VIEWS, image_type, safe_values
from .image_file import Unsuitable
from .notices import noted

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_EQUIPMENT = {"restored": ("109102", "Processing Equipment"), "generated": ("109100", "Synthesizing Equipment")}
# What an archive files an image by; one study must not hold two spellings of a patient.
_LINKED = (
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "FrameOfReferenceUID"),
)
_NEEDED = ("PatientID", "StudyInstanceUID", "SOPInstanceUID")  # of a source, to file a result beside it


def write_dicom(
    path: str | Path,
    pixels: np.ndarray,
    source_path: str | Path,
    record: Mapping[str, Any],
    description: str,
    rescale: tuple[float, float] | None = None,
    link_to_patient: bool = False,
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
        link_to_patient: whether it belongs to the patient and the study of its source and names it
            (SourceImageSequence), so that an archive can file it.
    """
    source = read_dataset(source_path, stop_before_pixels=True)
    with noted():
        write_instance(path, pixels, source, record, description, rescale, link_to_patient)


def write_instance(
    path: str | Path,
    pixels: np.ndarray,
    source: Any,
    record: Mapping[str, Any],
    description: str,
    rescale: tuple[float, float] | None = None,
    link_to_patient: bool = False,
    made: str = "restored",
) -> None:
    """As ``write_dicom``, for a data set as source, which may be made up; ``made`` is "restored" or "generated"."""
    pydicom = import_pydicom()
    new = pydicom.dataset.Dataset()
    dx_map = rescale is not None and SOP_CLASSES[str(source.SOPClassUID)].startswith("DX")
    new.SOPClassUID = (
        _SECONDARY_CAPTURE if dx_map else source.SOPClassUID
    )  # the pixels of DX have no other slope than 1
    for name, value in safe_values(source).items():
        setattr(new, name, value)
    for name, value in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), padding_of(path, source) or ()):
        if name in new:
            setattr(new, name, value)
    _add_identity(pydicom, new, source, record)
    _add_origin(pydicom, new, source, record, description, made)
    _add_pixels(new, source, pixels, rescale)
    if link_to_patient:
        _link(pydicom, new, source)
    _save(pydicom, path, new)


def _save(pydicom: Any, path: str | Path, new: Any) -> None:
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


def _link(pydicom: Any, new: Any, source: Any) -> None:
    """Give it back to the patient and the study of its source."""
    for name in _LINKED:
        if name in source:
            value = source.get(name)
            setattr(new, name, str(value) if name == "PatientName" else value)  # in our own character set
    new.PatientIdentityRemoved = "NO"
    for name in ("DeidentificationMethod", "DeidentificationMethodCodeSequence"):
        delattr(new, name)
    new.LongitudinalTemporalInformationModified = "UNMODIFIED"
    image = pydicom.dataset.Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    meaning = "Source image for image processing operation"
    image.PurposeOfReferenceCodeSequence = [_code(pydicom, "121322", meaning)]
    new.SourceImageSequence = [image]


def check_linkable(path: Path) -> None:
    """
    Look whether a result can be linked to the patient and the study of a DICOM image; other formats name none.

    Raises:
        Unsuitable: for an image that does not say whose it is, or what it is called itself.
    """
    if not is_dicom(path):
        return
    source = read_dataset(path, stop_before_pixels=True)
    missing = [name for name in _NEEDED if source.get(name) in (None, "")]
    if missing:
        raise Unsuitable(f"{path}: link_to_patient needs {', '.join(missing)} of the source, which has none.")


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


def _add_origin(pydicom: Any, new: Any, source: Any, record: Mapping[str, Any], description: str, made: str) -> None:
    """What the image is and what made it."""
    new.SpecificCharacterSet = "ISO_IR 192"
    new.ImageType = image_type(source, SOP_CLASSES[str(new.SOPClassUID)])
    new.add_new(0x0008001C, "CS", "YES")  # SyntheticData, a name that pydicom 2 does not know
    new.SeriesDescription = f"SYNTHETIC {record.get('bundle', '')} {record.get('map', '')}".strip()
    new.ImageComments = f"SYNTHETIC: {made} by a generative model, not for diagnosis"
    if made == "generated":
        new.ImagesInAcquisition = source.ImagesInAcquisition
    new.DerivationDescription = description[:1024]
    new.Manufacturer = "conditional-diffusion-bundles"
    new.ManufacturerModelName = str(record.get("bundle", ""))
    new.SoftwareVersions = str(record.get("version") or "")
    equipment = pydicom.dataset.Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code(pydicom, *_EQUIPMENT[made])]
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
    if all(name in new for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")):
        across, down = np.reshape([float(v) for v in source.ImageOrientationPatient], (2, 3))
        height, width = (float(v) for v in source.PixelSpacing)
        first = np.array([float(v) for v in source.ImagePositionPatient])
        first = first + across * width * (finer[1] - 1) / 2 + down * height * (finer[0] - 1) / 2
        new.ImagePositionPatient = [f"{value:.10g}" for value in first]


def _code(pydicom: Any, value: str, meaning: str, scheme: str = "DCM") -> Any:
    code = pydicom.dataset.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
