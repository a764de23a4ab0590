"""What a new DICOM instance may take over from its source: numbers, and defined terms of the standard, no free text."""

from __future__ import annotations

import math
import re
from typing import Any

_TERMS: dict[str, str] = {
    "Modality": "CR DX MR OT CT US XA RF MG NM PT IO PX XC",
    "BodyPartExamined": (
        "ABDOMEN ABDOMENPELVIS ANKLE ARM BACK BLADDER BRAIN BREAST CALCANEUS CHEST CHESTABDOMEN CLAVICLE COCCYX COLON "
        "CSPINE CTSPINE ELBOW EXTREMITY EYE FINGER FOOT FOREARM HAND HEAD HEADNECK HEART HIP HUMERUS JAW KIDNEY KNEE "
        "LEG LIVER LSPINE LSSPINE LUNG MAXILLA NECK ORBIT PANCREAS PATELLA PELVIS PROSTATE RIB SCAPULA SHOULDER SINUS "
        "SKULL SPINE SPLEEN SSPINE STERNUM STOMACH THIGH THUMB THYROID TIBIA TLSPINE TOE TSPINE UTERUS WHOLEBODY WRIST"
    ),
    "Laterality": "R L",
    "ImageLaterality": "R L U B",
    "ViewPosition": "AP PA LL RL RLD LLD RLO LLO",
    "PatientPosition": "HFP HFS HFDR HFDL FFDR FFDL FFP FFS LFP LFS RFP RFS AFDR AFDL PFDR PFDL",
    "RescaleType": "US HU OD MGML Z_EFF ED EDW HU_MOD PCT",
    "VOILUTFunction": "LINEAR LINEAR_EXACT SIGMOID",
    "PresentationLUTShape": "IDENTITY INVERSE",
    "PixelIntensityRelationship": "LIN LOG DISP",
    "PresentationIntentType": "FOR_PRESENTATION FOR_PROCESSING",
    "ScanningSequence": "SE IR GR EP RM",
    "SequenceVariant": "SK MTC SS TRSS SP MP OSP NONE",
    "ScanOptions": "PER RG CG PPG FC PFF PFP SP FS",
    "MRAcquisitionType": "2D 3D",
    "DetectorType": "DIRECT SCINTILLATOR STORAGE FILM",
    "ConversionType": "DV DI DF WSD SD SI DRW SYN",
    "PositionerType": "NONE C-ARM COLUMN MAMMOGRAPHIC PANORAMIC CEPHALOSTAT RIGID TELESCOPIC",
    "BurnedInAnnotation": "YES NO",
    "LossyImageCompression": "00 01",
    "LossyImageCompressionMethod": "ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_13818_2 ISO_14496_10",
}
_NUMBERS = (
    *("PixelSpacing", "ImagerPixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"),
    *("SpacingBetweenSlices", "SliceLocation", "InstanceNumber", "RescaleIntercept", "RescaleSlope", "WindowCenter"),
    *("WindowWidth", "PixelIntensityRelationshipSign", "RepetitionTime", "EchoTime", "InversionTime"),
    *("EchoTrainLength", "FlipAngle", "MagneticFieldStrength", "KVP", "PixelAspectRatio", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "LossyImageCompressionRatio"),
)
_DIRECTION = re.compile(r"[AFHLPR]{1,3}")
# Third value of ImageType, for each kind of image.
_IMAGE_TYPES = {"MR": "DENSITY_MAP DIFFUSION_MAP MPR OTHER PHASE_MAP PROJECTION_IMAGE T1_MAP T2_MAP VELOCITY_MAP M"}
REGIONS = {"CHEST": ("51185008", "Chest"), "LUNG": ("39607008", "Lung"), "HEAD": ("69536005", "Head")}
VIEWS = {
    "AP": ("399348003", "antero-posterior"),
    "PA": ("272460009", "postero-anterior"),
    "LL": ("399173006", "left lateral"),
    "RL": ("399198007", "right lateral"),
}
"""SNOMED CT codes of body parts and views, with meanings of our own: the source's are free text."""


def safe_values(source: Any) -> dict[str, Any]:
    """
    Attributes that say how the pixels are to be read and where they lie, nothing of who or when.

    Args:
        source: a pydicom data set.

    Returns:
        Keyword to value, of those that are there: numbers, and codes among the standard's defined terms. A text that
        is none of them, which could be a name, is left out, as are more or fewer numbers than the standard wants.
    """
    taken = {name: source.get(name) for name in _NUMBERS if name in source and _is_numbers(name, source.get(name))}
    for name, terms in _TERMS.items():
        if name in source:
            values = [str(value) for value in _listed(source.get(name))]
            if all(value.replace(" ", "_") in terms.split() for value in values):
                taken[name] = source.get(name)
    directions = [str(value) for value in _listed(source.get("PatientOrientation"))]
    if directions and all(_DIRECTION.fullmatch(value) for value in directions):
        taken["PatientOrientation"] = source.get("PatientOrientation")
    return taken


def _is_numbers(name: str, value: Any) -> bool:
    from pydicom.datadict import dictionary_VM

    values, wanted = _listed(value), dictionary_VM(name)
    if not values or (wanted.isdigit() and len(values) != int(wanted)):
        return False
    try:
        return all(math.isfinite(float(one)) for one in values)
    except (TypeError, ValueError):
        return False


def body_part(name: str) -> str:
    """The name of a part of the body, if the standard defines it; otherwise ValueError."""
    if name not in _TERMS["BodyPartExamined"].split():
        raise ValueError(f"body_part must be one of DICOM's terms, such as BRAIN or CHEST, got {name!r}.")
    return name


def image_type(source: Any, kind: str) -> list[str]:
    """ImageType of what is derived from ``source``, whose SOP class is ``kind``."""
    if kind != "MR":
        return ["DERIVED", "SECONDARY"] + [""] * kind.startswith("DX")
    third = [str(part) for part in _listed(source.get("ImageType"))][2:3]
    known = third and third[0].replace(" ", "_") in _IMAGE_TYPES["MR"].split()
    return ["DERIVED", "SECONDARY", third[0] if known else "OTHER"]


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
