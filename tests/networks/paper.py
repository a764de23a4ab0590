"""The networks of the Med-DDPM paper as the bundle's configs define them."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser

from common.networks.unet import ConditionalDiffusionUNet
from tests.fixtures import BRATS, BUNDLE, network_arguments


def config_network(overlay: str | None, **changes: Any) -> ConditionalDiffusionUNet:
    """The network of ``inference.json`` under ``overlay``; "brats" is ``paper.json`` of the bundle of that name."""
    bundle, overlay = (BRATS, "paper.json") if overlay == "brats" else (BUNDLE, overlay)
    parser = ConfigParser()
    parser.read_config([bundle / "configs" / name for name in ("inference.json", overlay) if name])
    parser.update({"bundle_root": str(bundle), **network_arguments(changes)})
    return parser.get_parsed_content("network_def")
