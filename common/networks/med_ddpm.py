"""The two networks of the Med-DDPM paper, as arguments of ``ConditionalDiffusionUNet``."""

from __future__ import annotations

from typing import Any

from .unet import ConditionalDiffusionUNet

# Base 64, multipliers 1, 1, 2, 3, 4; one head over all channels of a level.
_CHANNELS = (64, 64, 128, 192, 256)
_SHARED: dict[str, Any] = {
    "spatial_dims": 3,
    "channels": _CHANNELS,
    "num_head_channels": _CHANNELS,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "use_combined_linear": True,
    "resblock_updown": False,
    "max_period": 1000,
    "upsample_mode": "linear",
}
_ATTENTION_AT_SIDE_16_OF_128 = (False, False, False, True, False)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "head": {
        **_SHARED,
        "in_channels": 3,  # the noisy image, then the masks of head and tumour
        "out_channels": 1,
        "num_res_blocks": 1,
        "attention_levels": _ATTENTION_AT_SIDE_16_OF_128,
    },
    "brats": {
        **_SHARED,
        "in_channels": 8,  # four noisy modalities, then four masks
        "out_channels": 4,
        "num_res_blocks": 2,
        # The authors ask for attention at side 16 of 192, which no power of two reaches: only the middle block attends.
        "attention_levels": (False,) * 5,
    },
}


def med_ddpm(variant: str, **changes: Any) -> ConditionalDiffusionUNet:
    """
    The paper's network.

    Args:
        variant: "head" (one image from the masks of head and tumour) or "brats" (four modalities from four masks).
        changes: arguments of ``ConditionalDiffusionUNet`` that shall differ, e.g. ``use_checkpointing=True``.

    Returns:
        The network with fresh weights.

    Raises:
        ValueError: when there is no such variant.

    Source: Dorjsembe et al. 2024 (Med-DDPM), section III and the released configuration.
    """
    if variant not in ARGUMENTS:
        raise ValueError(f"variant must be one of {sorted(ARGUMENTS)}, got {variant!r}.")
    return ConditionalDiffusionUNet(**{**ARGUMENTS[variant], **changes})


def med_ddpm_head(**changes: Any) -> ConditionalDiffusionUNet:
    """The paper's 128³ whole-head network, see ``med_ddpm``."""
    return med_ddpm("head", **changes)


def med_ddpm_brats(**changes: Any) -> ConditionalDiffusionUNet:
    """The paper's four-modality BraTS network, see ``med_ddpm``."""
    return med_ddpm("brats", **changes)
