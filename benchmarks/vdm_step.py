"""
Time of a training step and of sampling with the variational model, against a bare PyTorch loop of the same network.

``python -m benchmarks.vdm_step`` prints a Markdown table. Ours is what the bundle runs: MONAI's trainer, a learned
schedule with variance minimisation, all three terms; the sampler with seeds and checks. The bare loop has a fixed
linear schedule and leaves out every term that has no gradient then. Blocks of both are interleaved in one process;
times are those of the processor, summed over threads, so that other programs on the machine hardly matter.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from torch import Tensor

from common.diffusion.variational import VariationalLoss
from common.inferers.training import VariationalInferer
from common.inferers.variational import VariationalSampler
from common.networks.gamma import FixedLinearGamma, MonotoneGamma
from common.networks.vdm import VariationalDiffusionModel, unet_vdm
from common.networks.vdm_dense import dense_vdm

from .denoising_step import hardware

LOW, HIGH = -13.3, 5.0
UNET: dict[str, Any] = {
    "channels": (32, 48, 64),
    "num_res_blocks": 1,
    "attention_levels": (False, False, True),
    "num_head_channels": 32,
    "norm_num_groups": 8,
}


def build(kind: str, learned: bool) -> tuple[VariationalDiffusionModel, int]:
    """The model, dense or convolutional, and the side of its images."""
    torch.manual_seed(0)
    gamma = MonotoneGamma(LOW, HIGH) if learned else FixedLinearGamma(LOW, HIGH)
    return (dense_vdm((128, 128), gamma), 128) if kind == "dense" else (unet_vdm(gamma, **UNET), 64)


def trainer(model: VariationalDiffusionModel, batches: list[dict[str, Tensor]]) -> Callable[[], None]:
    """A function that trains for one epoch of ``batches``."""
    engine = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        network=model,
        optimizer=torch.optim.AdamW(model.parameters(), 1e-4),
        loss_function=VariationalLoss(),
        inferer=VariationalInferer(),
        prepare_batch=lambda batch, device, non_blocking, **_: (batch["image"], batch["image"]),
        decollate=False,
        optim_set_to_none=True,
    )

    def run() -> None:
        engine.state.max_epochs = engine.state.epoch + 1
        engine.run()

    return run


def bare_trainer(model: VariationalDiffusionModel, batches: list[dict[str, Tensor]], kind: str) -> Callable[[], None]:
    """The same by hand."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    ends = torch.tensor([LOW, HIGH])
    (alpha_0, alpha_1), sigma_0 = torch.sigmoid(-ends).sqrt(), torch.sigmoid(ends[0]).sqrt()

    def loss(x: Tensor) -> Tensor:
        f = model.encoder(x)
        t = torch.rand(len(x))
        gamma_t = LOW + (HIGH - LOW) * t
        shape = (-1, *[1] * (f.ndim - 1))
        eps = torch.randn_like(f)
        z_t = torch.sigmoid(-gamma_t).sqrt().reshape(shape) * f + torch.sigmoid(gamma_t).sqrt().reshape(shape) * eps
        total = 0.5 * (HIGH - LOW) * (eps - model.score(z_t, gamma_t)).square().sum()
        if kind == "dense":  # pixels have an encoder and a decoder without weights
            z_0 = f + sigma_0 / alpha_0 * torch.randn_like(f)
            logits = model.decoder.logits(z_0)  # type: ignore[operator]
            total = total + torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            total = total + 0.5 * (alpha_1 * f).square().sum()
        return total / x.numel()

    def run() -> None:
        for batch in batches:
            optimizer.zero_grad()
            loss(batch["image"]).backward()
            optimizer.step()

    return run


def sampler(model: VariationalDiffusionModel, side: int, cases: int, steps: int) -> Callable[[], None]:
    """A function that draws ``cases`` images."""
    inferer = VariationalSampler((side, side), num_inference_steps=steps, progress=False)
    return lambda: (inferer(torch.arange(cases), model), None)[1]


def bare_sampler(model: VariationalDiffusionModel, side: int, cases: int, steps: int) -> Callable[[], None]:
    """The same by hand, Kingma et al. 2021, eq. 33."""
    gammas = torch.linspace(HIGH, LOW, steps + 1)
    alphas, sigmas = torch.sigmoid(-gammas).sqrt(), torch.sigmoid(gammas).sqrt()

    @torch.no_grad()
    def run() -> None:
        model.eval()
        z = torch.randn(cases, *model.latent_shape((side, side)))
        for i in range(steps):
            c = -torch.expm1(gammas[i + 1] - gammas[i])
            mean = alphas[i + 1] / alphas[i] * (z - c * sigmas[i] * model.score(z, gammas[i].expand(cases)))
            z = mean + sigmas[i + 1] * c.sqrt() * torch.randn_like(z)
        model.decode(z)
        model.train()

    return run


def compare(ours: Callable[[], None], bare: Callable[[], None], repeats: int, count: int) -> tuple[float, float]:
    """Median seconds of one of the ``count`` steps of a run: ours, bare."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(repeats + 1):
        for mine, run in ((True, ours), (False, bare)) if number % 2 else ((False, bare), (True, ours)):
            start = time.process_time()
            run()
            if number:  # the first of each is not timed
                seconds[mine].append((time.process_time() - start) / count)
    return statistics.median(seconds[True]), statistics.median(seconds[False])


def main(repeats: int = 9, batch_size: int = 8, steps: int = 20, threads: int | None = None) -> None:
    """
    Print one row for each model and task.

    Args:
        repeats: timed blocks of each kind, after one that is not timed.
        batch_size: images of a training step, and drawn together.
        steps: training steps of a block (a quarter of them for the U-Net), and denoising steps of a sample.
        threads: of PyTorch; None leaves them.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    print(f"{hardware('cpu')}; PyTorch {torch.__version__}; batch {batch_size}, medians of {repeats}\n")
    print("| model | task | ours, CPU ms a step | bare loop, CPU ms a step | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for kind in ("dense", "unet"):
        (model, side), (plain, _) = build(kind, True), build(kind, False)
        count = steps if kind == "dense" else max(1, steps // 4)
        batches = [{"image": torch.rand(batch_size, 1, side, side)} for _ in range(count)]
        train = compare(trainer(model, batches), bare_trainer(plain, batches, kind), repeats, count)
        both = [make(m, side, batch_size, steps) for make, m in ((sampler, model), (bare_sampler, plain))]
        draw = compare(both[0], both[1], repeats, steps)
        for task, (ours, bare) in (("training", train), ("sampling", draw)):
            print(f"| {kind} {side}² | {task} | {1e3 * ours:.1f} | {1e3 * bare:.1f} | {ours / bare:.2f} |", flush=True)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
