"""The networks of the Med-DDPM paper as the bundle's configs define them."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser

from common.networks.unet import ConditionalDiffusionUNet
from tests.fixtures import BUNDLE, network_arguments


def config_network(overlay: str | None, **changes: Any) -> ConditionalDiffusionUNet:
    """The network of ``inference.json`` under ``overlay`` ("paper.json", "brats.json"), arguments changed by name."""
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / name for name in ("inference.json", overlay) if name])
    parser.update({"bundle_root": str(BUNDLE), **network_arguments(changes)})
    return parser.get_parsed_content("network_def")
