"""The bound as it is trained, wrapped and used as a score."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor

from common.diffusion.variational import TERMS, VariationalBound, VariationalLoss, bits_per_dimension
from common.inferers.training import VariationalInferer
from common.inferers.variational import BoundInferer
from common.networks.gamma import FixedLinearGamma, MonotoneGamma
from common.networks.vdm_dense import dense_vdm

from .variational_toys import HIGH, LOW, STD, gaussian_data, gaussian_model, random


def small(**changes):
    torch.manual_seed(0)
    options = {"latent_features": 8, "features": 16, "score_features": 16, "blocks": 1, "score_blocks": 1}
    return dense_vdm((6, 6), MonotoneGamma(hidden=8), **{**options, **changes})


def pictures(cases: int = 4) -> torch.Tensor:
    return torch.rand(cases, 1, 6, 6, generator=random(2))


def test_a_training_step_reaches_every_weight_and_lowers_the_loss():
    model, x, inferer, loss = small(num_classes=2), pictures(8), VariationalInferer(), VariationalLoss()
    classes = torch.arange(8)[:, None] % 2
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    values = []
    for step in range(60):
        torch.manual_seed(step % 5)
        value = loss(inferer(MetaTensor(x), model, class_labels=classes), x)
        optimizer.zero_grad()
        value.backward()
        if step == 1:  # at step 0 layers behind a zero layer have no gradient yet
            assert [n for n, p in model.named_parameters() if p.grad is None] == []
        optimizer.step()
        values.append(float(value.detach()))
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


def test_the_loss_is_the_bound_in_bits_per_pixel():
    terms = dict(zip(TERMS, (torch.tensor([36.0, 0.0]), torch.tensor([0.0, 36.0]), torch.ones(2))))
    expected = 37 / (36 * math.log(2))
    assert float(VariationalLoss()(terms, pictures(2))) == pytest.approx(expected)
    assert float(bits_per_dimension(torch.tensor(math.log(256.0) * 10), 10)) == pytest.approx(8.0)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_names_its_term(term, value):
    terms = {name: torch.ones(2) for name in TERMS}
    terms[term] = torch.tensor([1.0, value])
    with pytest.raises(FloatingPointError, match=f"The {term} term"):
        VariationalLoss()(terms, pictures(2))


def test_gradients_go_through_the_forward_that_ddp_wraps(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(small())
        plain, x = small(), pictures()
        for model in (wrapped, plain):
            torch.manual_seed(3)
            VariationalLoss()(VariationalInferer()(x, model), x).backward()
        for ours, theirs in zip(wrapped.module.parameters(), plain.parameters()):
            torch.testing.assert_close(ours.grad, theirs.grad)
    finally:
        torch.distributed.destroy_process_group()


def test_an_images_score_does_not_depend_on_its_batch():
    model, x = small().eval(), pictures(3)
    inferer = BoundInferer(times=4, seed=1)
    together = inferer(x, model)
    assert together.shape == (3, 3)
    torch.testing.assert_close(together[1:2], inferer(x[1:2], model), rtol=1e-4, atol=1e-4)
    assert not torch.equal(together, BoundInferer(times=4, seed=2)(x, model))
    given = inferer(x, model, seeds=[5, 5, 6])
    torch.testing.assert_close(given[:1], inferer(x[:1], model, seeds=[5]), rtol=1e-4, atol=1e-4)
    assert not together.requires_grad


def test_more_times_give_a_steadier_score_of_the_same_mean():
    model = gaussian_model(FixedLinearGamma(LOW, HIGH).double(), STD)
    x = gaussian_data(STD, 1).expand(3000, -1)
    scores = {
        times: VariationalBound(times=times, antithetic=False)(model, x, generator=random())["diffusion"]
        for times in (1, 32)
    }
    assert float(scores[32].std()) < 0.3 * float(scores[1].std())
    assert float(scores[32].mean()) == pytest.approx(float(scores[1].mean()), rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"timesteps": 0}, "timesteps must be at least 1, or None"), ({"times": 0}, "times must be at least 1")],
)
def test_options_outside_their_range(options, message):
    with pytest.raises(ValueError, match=message):
        VariationalBound(**options)
    with pytest.raises(ValueError, match=message):
        BoundInferer(**options)


def test_classes_may_be_a_list_or_a_column():
    model, x = small(num_classes=2).eval(), pictures(2)
    inferer = BoundInferer(times=1)
    torch.testing.assert_close(inferer(x, model, class_labels=[0, 1]), inferer(x, model, torch.tensor([[0], [1]])))


def test_other_bad_input():
    with pytest.raises(ValueError, match="dimensions must be at least 1"):
        bits_per_dimension(torch.ones(1), 0)
    with pytest.raises(ValueError, match="4 cases need as many class_labels, got 3"):
        VariationalInferer()(pictures(), small(num_classes=2), class_labels=torch.zeros(3))
