"""
Estimated peak memory by volume size, as the bundles print it before a run that may not fit.

``python -m benchmarks.memory_table`` prints the Markdown table of the documentation; nothing is computed on data.
"""

from __future__ import annotations

from fire import Fire

from common.networks.device import estimate_memory
from common.networks.unet import ConditionalDiffusionUNet
from tests.networks.paper import config_network

ROWS = [("default", (40, 56, 40)), ("default", (128, 128, 128)), ("default", (192, 192, 144))]
ROWS += [("head", (64, 64, 64)), ("head", (96, 96, 96)), ("head", (128, 128, 128)), ("head", (192, 192, 192))]
ROWS += [("brats", (192, 192, 144))]


def network(name: str, **changes: object) -> ConditionalDiffusionUNet:
    """The bundle's default network, or one of the paper's."""
    return config_network({"head": "paper.json", "brats": "brats"}.get(name), **changes)


def main() -> None:
    """Print the table, batch 1, GiB."""
    print("| network | volume | inference | training | training, checkpointing |")
    print("| --- | --- | --- | --- | --- |")
    for name, sides in ROWS:
        channels = {"default": 3, "head": 3, "brats": 8}[name]
        shape = (1, channels, *sides)
        plain = {"precision": "fp32", "memory_format": "contiguous"}
        values = [
            estimate_memory(network(name, **plain), shape),
            estimate_memory(network(name, **plain), shape, training=True),
            estimate_memory(network(name, use_checkpointing=True, **plain), shape, training=True),
        ]
        cells = " | ".join(f"{value / 2**30:.1f}" for value in values)
        print(f"| {name} | {'×'.join(map(str, sides))} | {cells} |", flush=True)


if __name__ == "__main__":
    Fire(main)
