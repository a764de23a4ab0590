"""
Images a second that the dm bundles generate with `large_model.json`: their own network, sampler and writing of files.

``python -m benchmarks.generation`` prints a Markdown table. The weights are random, which changes no time. Each block
draws one batch and writes it to a temporary folder, as ``generate.json`` does; the first is not timed. On the CPU times
are those of the processor, summed over threads, so that other programs on the machine hardly matter.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from common.data.writer import SaveImaged
from common.inferers.training import ClassPrepareBatch
from common.studies.synthetic_set import SyntheticSet

from .denoising_step import hardware

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"


def parser_of(bundle: str, steps: int, ancestral: bool, guidance: float, side: int, device: str) -> ConfigParser:
    """The inference config of the large model with these settings."""
    files = [str(BUNDLES / bundle / "configs" / name) for name in ("inference.json", "large_model.json")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    if ancestral:
        parser["step_rule"]["_target_"] = "scripts.diffusion.steps.Ancestral"
    parser.update({"bundle_root": str(BUNDLES / bundle), "num_inference_steps": steps, "guidance_scale": guidance})
    parser.update({"spatial_size": [side, side], "inferer#progress": False, "device": torch.device(device)})
    return parser


def seconds(parser: ConfigParser, batch_size: int, repeats: int, device: str) -> list[float]:
    """Time of each of ``repeats`` batches, drawn and written; CPU seconds on the CPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    network, inferer = parser.get_parsed_content("network").eval(), parser.get_parsed_content("inferer")
    prepare = ClassPrepareBatch(parser["spatial_size"])
    times = []
    with tempfile.TemporaryDirectory() as folder:
        made = {"seed": 0, "steps": 0, "step_rule": "", "weights_sha256": ""}
        images = SyntheticSet(folder, parser["classes"][:1], batch_size * (repeats + 1), made, 0, batch_size)
        save = SaveImaged("pred", folder, image_set=images)
        every: list[dict[Any, Any]] = images.pending()
        for block in range(repeats + 1):
            cases = every[block * batch_size : (block + 1) * batch_size]
            start = clock()
            batch = {key: [case[key] for case in cases] for key in ("seed", "number", "class_index")}
            inputs, _, _, keywords = prepare(batch, device)
            with torch.no_grad():
                drawn = (inferer(inputs, network, **keywords).cpu() + 1) / 2
            for case, image in zip(cases, drawn):
                save({**case, "pred": image.clamp(0, 1)})
            times.append(clock() - start)
    return times[1:]


def main(
    bundles: str | tuple[str, ...] = ("dm_brain_tumor_mri", "dm_leukemia_smear"),
    steps: int | tuple[int, ...] = (25,),
    side: int = 128,
    batch_size: int = 50,
    repeats: int = 3,
    guidance: float = 1.0,
    ancestral: bool = False,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """
    Print one row for each bundle and number of steps.

    Args:
        bundles: names of folders in bundles/.
        steps: of the sampler; with ``ancestral``, at most 1000.
        side: pixels.
        batch_size: images drawn together.
        repeats: timed batches, after one that is not timed.
        guidance: 1 for one forward pass a step, otherwise two.
        ancestral: the papers' step rule instead of DPM-Solver++(2M); as fast a step.
        device: "cpu" or "cuda".
        threads: of PyTorch on the CPU; None leaves them.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    rule = "ancestral" if ancestral else "DPM-Solver++(2M)"
    print(
        f"{hardware(device)}; PyTorch {torch.__version__}; {side}², {rule}, batch {batch_size}, medians of {repeats}\n"
    )
    unit = "CPU second" if device == "cpu" else "second"
    print(f"| bundle | steps | {unit}s a batch | images a {unit} |")
    print("| --- | --- | --- | --- |")
    for bundle in bundles if isinstance(bundles, tuple | list) else (bundles,):
        for count in steps if isinstance(steps, tuple | list) else (steps,):
            parser = parser_of(bundle, count, ancestral, guidance, side, device)
            median = statistics.median(seconds(parser, batch_size, repeats, device))
            print(f"| {bundle} | {count} | {median:.2f} | {batch_size / median:.2f} |", flush=True)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
