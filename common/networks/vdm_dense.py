"""The Medical VDM paper's networks: dense residual encoder and decoder, and a score network on vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding, zero_module
from torch import Tensor, nn

from .gamma import Gamma, MonotoneGamma
from .pixel_codec import check_images, check_size
from .vdm import NoiseLevelScale, VariationalDiffusionModel, check_classes


class DenseBlock(nn.Module):
    """
    Residual block of two dense layers with swish; the identity at first.

    Args:
        features: width.
        cond_features: width of a condition that scales and shifts the hidden layer (FiLM); 0 for none.

    Source: Rguibi et al. 2023, section 2.5. The layer norm is ours: six such blocks on thousands of pixels do not
        train without one.

    >>> torch.equal(DenseBlock(8)(torch.ones(2, 8)), torch.ones(2, 8))
    True
    """

    def __init__(self, features: int, cond_features: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.linear_1 = nn.Linear(features, features)
        self.film = nn.Linear(cond_features, 2 * features) if cond_features else None
        self.linear_2 = zero_module(nn.Linear(features, features))

    def forward(self, h: Tensor, cond: Tensor | None = None) -> Tensor:
        """(N, features) for h (N, features) and cond (N, cond_features)."""
        update = self.linear_1(F.silu(self.norm(h)))
        if self.film is not None:
            scale, shift = self.film(cond).chunk(2, dim=-1)
            update = update * (1 + scale) + shift
        return h + self.linear_2(F.silu(update))


class _DenseStack(nn.Module):
    """A dense layer, residual blocks and a dense layer."""

    linear_in: nn.Linear
    blocks: nn.ModuleList
    linear_out: nn.Linear

    def _make(self, inputs: int, features: int, blocks: int, outputs: int, cond_features: int = 0) -> None:
        self.linear_in = nn.Linear(inputs, features)
        self.blocks = nn.ModuleList(DenseBlock(features, cond_features) for _ in range(blocks))
        self.linear_out = nn.Linear(features, outputs)

    def _run(self, h: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.linear_in(h)
        for block in self.blocks:
            h = block(h, cond)
        return self.linear_out(h)


class DenseEncoder(_DenseStack):
    """
    Image to latent vector: a dense layer, residual blocks, a dense layer.

    Args:
        image_size: (H, W), pixels.
        latent_features: length of the latent.
        features: width of the blocks.
        blocks: number of residual blocks.

    Source: Rguibi et al. 2023, section 2.4 (six blocks, latent of 64).

    >>> DenseEncoder((8, 8), features=16)(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 64])
    """

    def __init__(
        self, image_size: Sequence[int], latent_features: int = 64, features: int = 256, blocks: int = 6
    ) -> None:
        super().__init__()
        self.image_size = tuple(image_size)
        self.latent_features = latent_features
        self._make(math.prod(image_size), features, blocks, latent_features)

    def latent_shape(self, image_size: Sequence[int]) -> tuple[int, ...]:
        """(latent_features,); a ValueError for another image size."""
        check_size(image_size, self.image_size)
        return (self.latent_features,)

    def forward(self, x: Tensor) -> Tensor:
        """f, (N, latent_features), for x (N, 1, H, W) in [0, 1]."""
        check_images(x, self.image_size)
        return self._run(2 * x.flatten(1) - 1)


class BernoulliDecoder(_DenseStack):
    """
    Latent vector to the logits of independent Bernoulli pixels: a dense layer, residual blocks, a dense layer.

    A grey value x counts as "1 with probability x", so the log-likelihood is a cross-entropy; it cannot rise above
    minus ``bernoulli_entropy(x)``, and it is no density of grey values.

    Args:
        image_size: (H, W), pixels.
        latent_features: length of the latent.
        features: width of the blocks.
        blocks: number of residual blocks.

    Source: Rguibi et al. 2023, section 2.4.

    >>> BernoulliDecoder((8, 8), features=16).logits(torch.rand(2, 64)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self, image_size: Sequence[int], latent_features: int = 64, features: int = 256, blocks: int = 6
    ) -> None:
        super().__init__()
        self.image_size = tuple(image_size)
        self._make(latent_features, features, blocks, math.prod(image_size))

    def logits(self, z: Tensor) -> Tensor:
        """(N, 1, H, W) for z (N, latent_features)."""
        return self._run(z).reshape(-1, 1, *self.image_size)

    def log_likelihood(self, x: Tensor, z: Tensor, gamma_0: Tensor) -> Tensor:
        """log p(x | z), (N,), nats; ``gamma_0`` plays no part."""
        loss = F.binary_cross_entropy_with_logits(self.logits(z), x, reduction="none")
        return -loss.flatten(1).sum(1)

    def image(self, z: Tensor, gamma_0: Tensor) -> Tensor:
        """The mean image, (N, 1, H, W)."""
        return torch.sigmoid(self.logits(z))


class DenseScore(_DenseStack):
    """
    Noise in a latent vector, from the vector, its noise level and its class.

    Args:
        latent_features: length of the latent.
        features: width of the blocks.
        blocks: number of residual blocks.
        embedding: length of the embedding of the noise level, and of the class.
        num_classes: None for no classes.
        gamma_min: noise level that is embedded as step 0, see ``NoiseLevelScale``.
        gamma_max: noise level that is embedded as step 1000.

    Source: Rguibi et al. 2023, section 2.5 (embedding 128, ten blocks, output added to the input).

    >>> DenseScore(features=16)(torch.rand(2, 64), torch.tensor([-3.0, 3.0])).shape
    torch.Size([2, 64])
    """

    def __init__(
        self,
        latent_features: int = 64,
        features: int = 256,
        blocks: int = 10,
        embedding: int = 128,
        num_classes: int | None = None,
        gamma_min: float = -13.3,
        gamma_max: float = 5.0,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.num_classes = num_classes
        self.step = NoiseLevelScale(gamma_min, gamma_max)
        self.class_embedding = None if num_classes is None else nn.Embedding(num_classes, embedding)
        inputs = embedding * (1 if num_classes is None else 2)
        self.cond = nn.Sequential(
            nn.Linear(inputs, 4 * embedding),
            nn.SiLU(),
            nn.Linear(4 * embedding, 4 * embedding),
            nn.SiLU(),
            nn.Linear(4 * embedding, embedding),
        )
        self._make(latent_features, features, blocks, latent_features, embedding)
        zero_module(self.linear_out)

    def forward(self, z_t: Tensor, gamma_t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """eps_hat, (N, latent_features), for z_t (N, latent_features), gamma_t (N,) and classes (N,)."""
        check_classes(class_labels, self.num_classes)
        cond = get_timestep_embedding(self.step(gamma_t), self.embedding).to(z_t.dtype)
        if self.class_embedding is not None:
            cond = torch.cat([cond, self.class_embedding(class_labels)], dim=1)
        return z_t + self._run(z_t, self.cond(cond))

    def example_inputs(self, batch: int = 1) -> dict[str, Tensor]:
        """Inputs by name, for tools that trace the network; zeros."""
        z_t = self.linear_out.weight.new_zeros(batch, self.linear_out.out_features)
        classes = (
            {} if self.num_classes is None else {"class_labels": torch.zeros(batch, dtype=torch.long).to(z_t.device)}
        )
        return {"z_t": z_t, "gamma_t": z_t.new_zeros(batch), **classes}


def bernoulli_entropy(x: Tensor) -> Tensor:
    """The least reconstruction loss that any Bernoulli decoder can have, (N,), nats, for x (N, ...) in [0, 1]."""
    x = x.clamp(0, 1)
    return -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).flatten(1).sum(1)


def dense_vdm(
    image_size: Sequence[int],
    gamma: Gamma | None = None,
    latent_features: int = 64,
    features: int = 256,
    blocks: int = 6,
    score_features: int = 256,
    score_blocks: int = 10,
    embedding: int = 128,
    num_classes: int | None = None,
) -> VariationalDiffusionModel:
    """
    The paper's model with fresh weights.

    Args:
        image_size: (H, W), pixels.
        gamma: the noise schedule; None for a ``MonotoneGamma``.
        latent_features: length of the latent (paper: 64).
        features: width of encoder and decoder (the paper does not say).
        blocks: residual blocks of encoder and of decoder (paper: 6).
        score_features: width of the score network (the paper does not say).
        score_blocks: residual blocks of the score network (paper: 10).
        embedding: length of the embedding of the noise level (paper: 128).
        num_classes: None for no classes; the class is told to the score network alone.

    Returns:
        The model.

    Source: Rguibi et al. 2023 (Medical VDM), sections 2.4 and 2.5.
    """
    gamma = MonotoneGamma() if gamma is None else gamma
    low, high = (float(value.detach()) for value in gamma.endpoints())
    return VariationalDiffusionModel(
        gamma,
        DenseScore(latent_features, score_features, score_blocks, embedding, num_classes, low, high),
        DenseEncoder(image_size, latent_features, features, blocks),
        BernoulliDecoder(image_size, latent_features, features, blocks),
    )
