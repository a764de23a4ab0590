"""The variational diffusion model: a schedule, a score network, images to latents and back; and its form on pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .export import ScriptedImages
from .gamma import Gamma, MonotoneGamma, alpha_sigma
from .pixel_codec import PixelCodec
from .unet import ConditionalDiffusionUNet


class VariationalDiffusionModel(nn.Module):
    """
    A latent-variable model of images: x -> f -> z_0 ... z_1 -> noise, and back by a network that predicts the noise.

    z_t = alpha_t f + sigma_t eps. The parts are given, so that latents may be vectors (``vdm_dense``) or the pixels
    themselves (``unet_vdm``).

    Args:
        gamma: the noise schedule.
        score: called as ``score(z_t, gamma_t, class_labels)`` with gamma_t (N,); returns eps_hat like z_t.
        encoder: called as ``encoder(x)``; returns f; has ``latent_shape(image_size)``.
        decoder: has ``log_likelihood(x, z, gamma_0)`` -> (N,) and ``image(z, gamma_0)`` -> x, with z = z_0 / alpha_0;
            None where the encoder is the decoder too.

    Source: Kingma et al. 2021 (VDM), sections 3.1 to 3.4; Rguibi et al. 2023 (Medical VDM), section 2.

    >>> from .vdm_dense import dense_vdm
    >>> model = dense_vdm((8, 8), features=16, score_features=16)
    >>> model.decode(model.encode(torch.rand(2, 1, 8, 8))).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, gamma: Gamma, score: nn.Module, encoder: nn.Module, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.score = score
        self.encoder = encoder
        self.decoder = encoder if decoder is None else decoder

    @property
    def divisor(self) -> int:
        """What every side of an image must be a multiple of."""
        return int(getattr(self.score, "divisor", 1))

    def running_precision(self, device: torch.device | str | None = None) -> str:
        """What the score network computes in, see ``ConditionalDiffusionUNet``; "fp32" where it is no U-Net."""
        chosen = [part for part in self.score.modules() if hasattr(part, "running_precision")]
        return chosen[0].running_precision(device) if chosen else "fp32"  # type: ignore[operator]

    def latent_shape(self, image_size: Sequence[int]) -> tuple[int, ...]:
        """Shape of one latent for images of ``image_size`` (H, W); a ValueError when the model takes no such images."""
        return self.encoder.latent_shape(image_size)  # type: ignore[operator]

    def encode(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, 1, H, W), float in [0, 1].

        Returns:
            f, (N, *latent): mean of z_0 before it is scaled by alpha_0.

        Raises:
            ValueError: for images of another shape, size or range.
        """
        return self.encoder(x)

    def log_likelihood(self, x: Tensor, z_0: Tensor) -> Tensor:
        """log p(x | z_0), (N,), nats, for x (N, 1, H, W) in [0, 1] and z_0 (N, *latent)."""
        gamma_0 = self.gamma.endpoints()[0]
        return self.decoder.log_likelihood(x, z_0 / alpha_sigma(gamma_0)[0], gamma_0)  # type: ignore[operator]

    def decode(self, z_0: Tensor) -> Tensor:
        """The mean (Bernoulli) or most likely (256 levels) image of z_0 (N, *latent): (N, 1, H, W) in [0, 1]."""
        gamma_0 = self.gamma.endpoints()[0]
        return self.decoder.image(z_0 / alpha_sigma(gamma_0)[0], gamma_0)  # type: ignore[operator]

    def eps_hat(self, z_t: Tensor, gamma_t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """
        Predict the noise in z_t.

        Args:
            z_t: (N, *latent), float.
            gamma_t: -log SNR of z_t, (N,) or a scalar.
            class_labels: (N,) integer, or None for a model without classes.

        Returns:
            Like z_t.

        Raises:
            ValueError: when classes are missing, given to a model without them, or out of range.
        """
        return self.score(z_t, torch.as_tensor(gamma_t).to(z_t).expand(len(z_t)), class_labels)

    def forward(
        self,
        x: Tensor,
        class_labels: Tensor | None = None,
        bound: Any = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """
        The training call: everything that needs a gradient happens in here, as DistributedDataParallel asks.

        Args:
            x: (N, 1, H, W), float in [0, 1].
            class_labels: (N,) integer or None.
            bound: has ``terms(model, x, class_labels, generator)``, see ``diffusion.variational.VariationalBound``.
            generator: of its random numbers; None for the global one.

        Returns:
            The bound's terms; without a bound, the image decoded from f, (N, 1, H, W).
        """
        if bound is None:
            return self.decode(alpha_sigma(self.gamma.endpoints()[0])[0] * self.encode(x))
        return bound.terms(self, x, class_labels, generator)

    def __prepare_scriptable__(self) -> ScriptedImages:
        """What ``torch.jit.script`` compiles in this model's place: the trace of encoding and decoding an image."""
        sides = getattr(self.encoder, "image_size", None) or [4 * self.divisor] * 2
        return ScriptedImages(self, torch.zeros(2, 1, *sides, device=next(self.parameters()).device))


def check_classes(class_labels: Tensor | None, num_classes: int | None) -> None:
    """A ValueError when ``class_labels`` are missing, not wanted, or outside [0, num_classes)."""
    if (class_labels is None) != (num_classes is None):
        wanted = "no class_labels" if num_classes is None else f"class_labels in [0, {num_classes})"
        raise ValueError(f"This model takes {wanted}, got {'none' if class_labels is None else 'some'}.")
    if class_labels is None or num_classes is None:
        return
    if not bool(((class_labels >= 0) & (class_labels < num_classes)).all()):
        raise ValueError(f"class_labels must lie in [0, {num_classes}), got {class_labels.tolist()}.")


class NoiseLevelScale(nn.Module):
    """
    gamma as the "time step" of a sinusoidal embedding: 0 at ``gamma_min``, 1000 at ``gamma_max``.

    The two are fixed when the network is made and do not follow learned endpoints: the network knows the noise level
    itself, not where it lies in the schedule, so that eps_hat(z, gamma) does not change when only the schedule does.

    >>> NoiseLevelScale(-4.0, 6.0)(torch.tensor([-4.0, 1.0])).tolist()
    [0.0, 500.0]
    """

    def __init__(self, gamma_min: float = -13.3, gamma_max: float = 5.0) -> None:
        super().__init__()
        if not gamma_min < gamma_max:
            raise ValueError(f"gamma_min must be below gamma_max, got {gamma_min} and {gamma_max}.")
        self.gamma_min = gamma_min
        self.gamma_max = gamma_max

    def forward(self, gamma_t: Tensor) -> Tensor:
        """The step, (N,) float, for gamma_t (N,)."""
        return 1000 * (gamma_t - self.gamma_min) / (self.gamma_max - self.gamma_min)


class UNetScore(nn.Module):
    """
    Noise in an image: MONAI's U-Net on the noisy image and its Fourier features, added to the noisy image.

    Args:
        num_classes: None for no classes.
        fourier: n of the features sin(2^n pi z) and cos(2^n pi z): which grey level a value is next to.
        gamma_min: noise level that is embedded as step 0, see ``NoiseLevelScale``.
        gamma_max: noise level that is embedded as step 1000.
        unet: arguments of ``ConditionalDiffusionUNet`` but its dimensions, channels in and out, and classes.

    Source: Kingma et al. 2021 (VDM), section 3.4, eq. 34 and appendix C.

    >>> score = UNetScore(channels=(8,), attention_levels=(False,), num_res_blocks=1, norm_num_groups=8)
    >>> score(torch.rand(2, 1, 8, 8), torch.tensor([-3.0, 3.0])).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        num_classes: int | None = None,
        fourier: Sequence[int] = (7, 8),
        gamma_min: float = -13.3,
        gamma_max: float = 5.0,
        **unet: Any,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.fourier = tuple(fourier)
        self.step = NoiseLevelScale(gamma_min, gamma_max)
        self.unet = ConditionalDiffusionUNet(
            2, 1 + 2 * len(self.fourier), 1, num_class_embeds=num_classes, **{"include_fc": False, **unet}
        )
        self.divisor = self.unet.divisor

    def forward(self, z_t: Tensor, gamma_t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """eps_hat, (N, 1, H, W), for z_t (N, 1, H, W), gamma_t (N,) and classes (N,)."""
        check_classes(class_labels, self.num_classes)
        angles = [z_t * (2.0**n * math.pi) for n in self.fourier]
        features = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
        return z_t + self.unet(torch.cat([z_t, *features], dim=1), self.step(gamma_t), class_labels=class_labels)

    def example_inputs(self, batch: int = 1) -> dict[str, Tensor]:
        """As the denoising U-Net's, under this network's names."""
        x, gamma_t, *classes = self.unet.example_inputs(batch).values()
        return {"z_t": x[:, :1], "gamma_t": gamma_t.to(x), **({"class_labels": classes[0]} if classes else {})}


def unet_vdm(
    gamma: Gamma | None = None,
    image_size: Sequence[int] | None = None,
    num_classes: int | None = None,
    fourier: Sequence[int] = (7, 8),
    **unet: Any,
) -> VariationalDiffusionModel:
    """
    The pixel-space model with fresh weights.

    Args:
        gamma: the noise schedule; None for a ``MonotoneGamma``.
        image_size: (H, W) to insist on; None for any that the U-Net can halve.
        num_classes: None for no classes.
        fourier: see ``UNetScore``.
        unet: arguments of ``ConditionalDiffusionUNet``.

    Returns:
        The model.
    """
    gamma = MonotoneGamma() if gamma is None else gamma
    low, high = (float(value.detach()) for value in gamma.endpoints())
    return VariationalDiffusionModel(gamma, UNetScore(num_classes, fourier, low, high, **unet), PixelCodec(image_size))
