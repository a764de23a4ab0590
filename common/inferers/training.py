"""What MONAI's engines call in an iteration: batches for training and sampling, and the forward pass of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.engines.utils import DiffusionPrepareBatch
from monai.inferers import Inferer, SimpleInferer
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from ..diffusion.schedules import NoiseSchedule
from ..diffusion.seeds import flat_classes
from ..diffusion.steps import PREDICTION_TYPES
from ..diffusion.variational import VariationalBound
from ..networks.device import autocast, resolve_memory_format, resolve_precision


class ConditionalPrepareBatch(DiffusionPrepareBatch):
    """
    ``DiffusionPrepareBatch`` for every prediction type, with conditions that are dropped at random.

    A dropped condition becomes 0 in all its channels, between the two values of a mask channel, and a dropped class the
    last class embedding, so that one network learns both noises, as classifier-free guidance needs.

    Args:
        schedule: the noise schedule, also of the ``TrainingInferer``.
        prediction_type: what the network predicts: "epsilon", "sample" (x_0) or "v_prediction".
        condition_name: key of the channels to concatenate, (N, C, *spatial) in [-1, 1], or None.
        class_name: key of the class index, (N,) integer, or None.
        condition_dropout: share of cases whose conditions are dropped, in [0, 1).
        null_class: class index that stands for "no class"; required where classes are dropped.
        timestep_power: p of t = floor(T u^p), u uniform; 1 draws every t alike (the papers), above 1 more small ones.
        max_weight: a squared error of the prediction is one of x_0 times 1 ("sample"), SNR or 1 + SNR; this caps the
            factor, by scaling prediction and target. Near t = 0 it reaches thousands, for noise that nobody sees
            and that cannot be predicted. None for no cap (the papers).

    Raises:
        ValueError: for an unknown prediction type, a dropout outside [0, 1), a missing ``null_class``, or a power or
            weight that is not positive.

    Source: Med-DDPM, Algorithm 1; Ho & Salimans 2022, Algorithm 1 (dropout); Hang et al. 2023 (Min-SNR), whose cap
        also takes the factor to 0 at high noise, where a strong condition still has to be learned.

    >>> prepare = ConditionalPrepareBatch(NoiseSchedule(), "v_prediction", condition_name="label")
    >>> image, target, _, arguments = prepare({"image": torch.zeros(2, 1, 4, 4), "label": torch.ones(2, 3, 4, 4)})
    >>> target.shape, sorted(arguments)
    (torch.Size([2, 1, 4, 4]), ['condition', 'noise', 'timesteps'])
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        prediction_type: str = "epsilon",
        condition_name: str | None = None,
        class_name: str | None = None,
        condition_dropout: float = 0.0,
        null_class: int | None = None,
        timestep_power: float = 1.0,
        max_weight: float | None = None,
    ) -> None:
        super().__init__(schedule.num_train_timesteps, condition_name)
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"prediction_type must be one of {PREDICTION_TYPES}, got {prediction_type!r}.")
        if not 0 <= condition_dropout < 1:
            raise ValueError(f"condition_dropout must lie in [0, 1), got {condition_dropout}.")
        if class_name is not None and condition_dropout > 0 and null_class is None:
            raise ValueError("null_class is required to drop class conditions.")
        for name, value in (("timestep_power", timestep_power), ("max_weight", max_weight)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}.")
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.class_name = class_name
        self.condition_dropout = condition_dropout
        self.null_class = null_class
        self.timestep_power = timestep_power
        self.max_weight = max_weight

    def get_timesteps(self, images: Tensor) -> Tensor:
        """(N,) integer in [0, T)."""
        if self.timestep_power == 1:
            return super().get_timesteps(images)
        u = torch.rand(len(images), dtype=torch.float64) ** self.timestep_power
        return (u * self.num_train_timesteps).long().to(images.device)

    def get_scale(self, timesteps: Tensor) -> Tensor:
        """What prediction and target are multiplied by, (N,) float32, for ``max_weight``."""
        snr = self.schedule.alpha_bar / (1 - self.schedule.alpha_bar)
        factor = {"sample": torch.ones_like(snr), "epsilon": snr, "v_prediction": 1 + snr}[self.prediction_type]
        scale = torch.ones_like(snr) if self.max_weight is None else (self.max_weight / factor).clamp(max=1).sqrt()
        return scale.float().to(timesteps.device)[timesteps]

    def get_target(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The tensor that the loss compares the prediction with, the shape of ``images``."""
        if self.prediction_type == "epsilon":
            return noise
        return images if self.prediction_type == "sample" else self.schedule.get_velocity(images, noise, timesteps)

    def __call__(  # type: ignore[override]
        self,
        batchdata: dict[str, Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        """Returns the image, the target, no positional and the keyword arguments of ``TrainingInferer``."""
        # without MONAI's metadata, whose bookkeeping costs time in every operation of a training step
        plain = {key: convert_to_tensor(value) for key, value in batchdata.items() if isinstance(value, Tensor)}
        images, target, args, infer_kwargs = super().__call__(plain, device, non_blocking, **kwargs)
        dropped = torch.rand(len(images), device=images.device) < self.condition_dropout
        if self.condition_name is not None:
            condition = infer_kwargs["condition"]
            mask = dropped.reshape(-1, *[1] * (condition.ndim - 1))
            infer_kwargs["condition"] = condition.masked_fill(mask, 0.0)
        if self.max_weight is not None:
            scale = self.get_scale(infer_kwargs["timesteps"])
            infer_kwargs["scale"] = scale = scale.reshape(-1, *[1] * (images.ndim - 1))
            target = target * scale
        if self.class_name is not None:
            labels = plain[self.class_name].to(images.device).long().flatten()
            infer_kwargs["class_labels"] = (
                labels if self.null_class is None else labels.masked_fill(dropped, self.null_class)
            )
        return images, target, args, infer_kwargs


class ClassPrepareBatch:
    """
    Turn a batch of numbered cases into what ``DiffusionSampler`` is called with: the shape, seeds and classes.

    Args:
        spatial_size: sides of the images.
        conditional: whether the network is told the class.

    >>> batch = {"seed": [7, 8], "number": [0, 1], "class_index": [0, 2]}
    >>> inputs, numbers, _, arguments = ClassPrepareBatch((8, 8))(batch)
    >>> inputs.shape, arguments["class_labels"].tolist()
    (torch.Size([2, 1, 8, 8]), [0, 2])
    """

    def __init__(self, spatial_size: Sequence[int], conditional: bool = True) -> None:
        self.spatial_size = tuple(spatial_size)
        self.conditional = conditional

    def __call__(
        self, batchdata: Mapping[str, Any], device: str | torch.device | None = None, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        """Returns zeros (N, 1, *spatial), the numbers (N,), no positional and the sampler's keyword arguments."""
        seeds = torch.as_tensor(batchdata["seed"])
        inputs = torch.zeros(len(seeds), 1, *self.spatial_size, device=device)
        keywords: dict[str, Any] = {"seeds": seeds}
        if self.conditional:
            keywords["class_labels"] = torch.as_tensor(batchdata["class_index"]).to(device)
        return inputs, torch.as_tensor(batchdata["number"]), (), keywords


class AutocastInferer(SimpleInferer):
    """
    Run a network under autocast and return float32; MONAI's ``amp`` is for CUDA alone, and scales losses always.

    For networks that choose no precision of their own, such as classifiers and discriminators.

    Args:
        precision: of convolutions and products: a dtype, or a word that ``resolve_precision`` knows, with which images
            also take the layout that is fast there; for float32 nothing is cast.

    >>> AutocastInferer("bf16")(torch.ones(1, 3), nn.Linear(3, 2)).dtype
    torch.float32
    """

    def __init__(self, precision: str | torch.dtype) -> None:
        super().__init__()
        self.precision = precision

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """What ``network`` makes of ``inputs``, in float32."""
        dtype = self.precision
        if isinstance(dtype, str):
            dtype = resolve_precision(dtype, inputs.device)
            if inputs.ndim > 3 and (layout := resolve_memory_format("auto", inputs.device, inputs.ndim - 2, dtype)):
                inputs = inputs.contiguous(memory_format=layout)
        with autocast(inputs.device.type, dtype):
            return super().__call__(inputs, network, *args, **kwargs).float()


class TrainingInferer(Inferer):
    """
    Noise the image, concatenate the condition, predict: MONAI's ``DiffusionInferer`` with class labels as well.

    Args:
        schedule: gives x_t (Med-DDPM eq. 1).

    >>> image = noise = torch.ones(1, 1, 4, 4)
    >>> inferer = TrainingInferer(NoiseSchedule("linear", 1000))
    >>> inferer(image, lambda x, timesteps: x, noise, torch.tensor([0])).mean().round(decimals=2)
    tensor(1.0100)
    """

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.schedule = schedule

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: torch.nn.Module,
        noise: Tensor,
        timesteps: Tensor,
        condition: Tensor | None = None,
        class_labels: Tensor | None = None,
        scale: Tensor | float = 1.0,
    ) -> Tensor:
        """
        Args:
            inputs: x_0, (N, C, *spatial), in [-1, 1].
            network: called with ``x``, ``timesteps`` and, if given, ``class_labels``.
            noise: eps, the shape of ``inputs``.
            timesteps: (N,) integer in [0, T).
            condition: (N, C', *spatial) or None.
            class_labels: (N,) integer or None.
            scale: of the prediction, broadcast to it; see ``ConditionalPrepareBatch``'s ``max_weight``.

        Returns:
            The network's prediction times ``scale``, (N, C, *spatial).
        """
        x = self.schedule.add_noise(original_samples=inputs, noise=noise, timesteps=timesteps)
        if condition is not None:
            x = torch.cat([x, condition], dim=1)
        extra = {} if class_labels is None else {"class_labels": class_labels}
        return network(x, timesteps=timesteps, **extra) * scale


class VariationalInferer(Inferer):
    """
    The forward pass of training, as MONAI's trainers call it: image in, the three terms out.

    Args:
        bound: how they are estimated; ``VariationalBound()`` by default.

    >>> from ..networks.vdm_dense import dense_vdm
    >>> terms = VariationalInferer()(torch.rand(2, 1, 8, 8), dense_vdm((8, 8), features=8, score_features=8))
    >>> sorted(terms)
    ['diffusion', 'latent', 'reconstruction']
    """

    def __init__(self, bound: VariationalBound | None = None) -> None:
        super().__init__()
        self.bound = VariationalBound() if bound is None else bound

    def __call__(  # type: ignore[override]
        self, inputs: Tensor, network: nn.Module, class_labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms, each (N,) nats, for ``inputs`` (N, 1, H, W) in [0, 1] and ``class_labels`` (N,) or None."""
        return self.bound(network, convert_to_tensor(inputs), flat_classes(class_labels, inputs))
