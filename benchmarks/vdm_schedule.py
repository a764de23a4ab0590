"""
What the schedule's shape does to the bound: Gaussian data with the best score network, fixed linear against learned.

``python -m benchmarks.vdm_schedule`` prints two Markdown tables: the bound for several T, and the mean and the spread
of the continuous-time diffusion term before and after the shape has been trained for less variance.
"""

from __future__ import annotations

import torch

from common.diffusion.variational import VariationalBound
from common.networks.gamma import FixedLinearGamma, Gamma, MonotoneGamma
from common.networks.vdm import VariationalDiffusionModel
from tests.diffusion.variational_toys import gaussian_data, gaussian_diffusion, gaussian_entropy, gaussian_model

# as images: most directions hardly vary
STD = torch.tensor([0.05, 0.1, 0.5, 1.0], dtype=torch.float64).repeat(16)
LOW, HIGH = -13.3, 5.0


@torch.no_grad()
def estimates(
    model: VariationalDiffusionModel, cases: int, timesteps: int | None = None, antithetic: bool = True
) -> dict[str, torch.Tensor]:
    """One estimate of each term for each of ``cases`` images."""
    bound = VariationalBound(timesteps, antithetic=antithetic)
    return bound(model, gaussian_data(STD, cases), generator=torch.Generator().manual_seed(1))


def learn(model: VariationalDiffusionModel, steps: int, batch_size: int) -> None:
    """Train the shape, endpoints fixed."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    bound, generator = VariationalBound(), torch.Generator().manual_seed(2)
    for step in range(steps):
        optimizer.zero_grad()
        x = gaussian_data(STD, batch_size, seed=100 + step)
        bound(model, x, generator=generator)["diffusion"].mean().backward()
        optimizer.step()


def main(cases: int = 100_000, steps: int = 500, batch_size: int = 64) -> None:
    """
    Print the tables.

    Args:
        cases: images whose estimates are averaged.
        steps: training steps of the shape.
        batch_size: images of a training step.
    """
    torch.manual_seed(0)
    fixed: Gamma = FixedLinearGamma(LOW, HIGH).double()
    learned: Gamma = MonotoneGamma(LOW, HIGH, 256, learn_endpoints=False).double()
    print(f"entropy {gaussian_entropy(STD):.4f} nats, diffusion term {gaussian_diffusion(STD, LOW, HIGH):.4f} nats\n")
    print("| T | bound, nats |\n| --- | --- |")
    model = gaussian_model(fixed, STD)
    for timesteps in (10, 100, 1000, 10_000, None):
        total = sum(term.mean() for term in estimates(model, cases, timesteps).values())
        print(f"| {'continuous' if timesteps is None else timesteps} | {float(total):.4f} |")
    print("\n| schedule | diffusion term, nats | standard deviation of one estimate |\n| --- | --- | --- |")
    for name, gamma in (("fixed linear", fixed), ("learned, before training", learned), ("learned", learned)):
        model = gaussian_model(gamma, STD)
        if name == "learned":
            learn(model, steps, batch_size)
        drawn = estimates(model, cases)["diffusion"]
        print(f"| {name} | {float(drawn.mean()):.3f} | {float(drawn.std()):.3f} |", flush=True)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
