"""The denoising U-Net of the bundles: MONAI's ``DiffusionModelUNet`` plus what the papers need and MONAI fixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet, get_timestep_embedding
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn
from torch.utils.checkpoint import checkpoint

from .convolution import with_small_volumes
from .device import autocast, precision_name, resolve_memory_format, resolve_precision
from .export import ScriptedDenoiser
from .position import mask_coordinates
from .refiner import FullResolutionRefiner

_LINEAR_MODE = {1: "linear", 2: "bilinear", 3: "trilinear"}


class ConditionalDiffusionUNet(DiffusionModelUNet):
    """
    ``DiffusionModelUNet`` with the choices that its constructor does not offer; state-dict keys are unchanged.

    What MONAI 1.6.1 has fixed: a time embedding of period 10000 and nearest up-sampling (Med-DDPM was trained with
    1000 and trilinear), and no activation checkpointing, autocast or space-to-depth of the input.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image and of everything concatenated to it.
        out_channels: channels of the predicted noise, image or velocity.
        patch_size: side of the blocks folded into channels before the first and unfolded after the last convolution
            (space-to-depth, 1 = off). Every side of the input must be a multiple of ``divisor``.
        refine_channels: width of two residual blocks at full resolution after the unfolding, see
            ``FullResolutionRefiner``; 0 for none.
        mask_channels: how many channels at the end of the input are a one-hot mask, whose ``mask_coordinates`` the
            network reads as well, since it hardly learns where in a large label, such as a brain, it is; 0 for none.
        max_period: longest period of the sinusoidal time embedding, in time steps.
        upsample_mode: "nearest" or "linear" (bilinear or trilinear, ``align_corners=False``).
        use_checkpointing: recompute the blocks' activations in the backward pass instead of keeping them.
        precision: of float32 weights: "fp32", "bf16", "fp16" (for inference) or "auto", see ``resolve_precision``; on a
            CPU, images with a side of no more than ``divisor`` are always computed in fp32. Converted weights, as by
            ``half()``, run in their own dtype. ``running_precision`` says which it is.
        memory_format: "contiguous", "channels_last" or "auto", see ``resolve_memory_format``.
        kwargs: every other argument of ``DiffusionModelUNet``.

    Raises:
        ValueError: when ``patch_size`` < 1, ``mask_channels`` are too many, the first level's channels cannot be
            unfolded for the refiner, or ``upsample_mode``, ``precision`` or ``memory_format`` is unknown.

    Source: Dorjsembe et al. 2024 (Med-DDPM), Fig. 1; Ho et al. 2020, appendix B.

    >>> small = {"channels": (8, 16), "attention_levels": (False, False), "num_res_blocks": 1, "norm_num_groups": 8}
    >>> network = ConditionalDiffusionUNet(2, 3, 1, patch_size=2, precision="fp32", **small)
    >>> network(torch.rand(1, 3, 16, 16), torch.tensor([9])).shape, network.divisor, network.running_precision()
    (torch.Size([1, 1, 16, 16]), 4, 'fp32')
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        patch_size: int = 1,
        refine_channels: int = 0,
        mask_channels: int = 0,
        max_period: int = 10000,
        upsample_mode: str = "nearest",
        use_checkpointing: bool = False,
        precision: str = "auto",
        memory_format: str = "auto",
        **kwargs: Any,
    ) -> None:
        if patch_size < 1:
            raise ValueError(f"patch_size must be at least 1, got {patch_size}.")
        if not 0 <= mask_channels <= in_channels:
            raise ValueError(f"mask_channels must lie in [0, {in_channels}] (in_channels), got {mask_channels}.")
        resolve_precision(precision, torch.device("cpu"))  # wrong names are refused before the first step
        resolve_memory_format(memory_format, torch.device("cpu"), spatial_dims)
        folded = patch_size**spatial_dims
        read = in_channels + (spatial_dims if mask_channels else 0)
        super().__init__(spatial_dims, read * folded, out_channels * folded, **kwargs)
        self.spatial_dims = spatial_dims
        self.input_channels, self.mask_channels = in_channels, mask_channels
        self.patch_size = patch_size
        self.max_period = max_period
        self.use_checkpointing = use_checkpointing
        self.precision = precision
        self.memory_format = memory_format
        self.divisor = patch_size * 2 ** (len(self.block_out_channels) - 1)
        self.refiner: FullResolutionRefiner | None = None
        if refine_channels:
            first = self.block_out_channels[0]
            if first % folded:
                raise ValueError(f"channels[0] must be a multiple of {folded} to be unfolded, got {first}.")
            self.refiner = FullResolutionRefiner(
                spatial_dims, read, out_channels, first // folded, refine_channels, 4 * first
            )
        self._set_upsampling(upsample_mode)
        with_small_volumes(self)

    def _set_upsampling(self, mode: str) -> None:
        if mode not in ("nearest", "linear"):
            raise ValueError(f"upsample_mode must be 'nearest' or 'linear', got {mode!r}.")
        for module in self.modules():
            if isinstance(module, nn.Upsample) and mode == "linear":
                module.mode, module.align_corners = _LINEAR_MODE[self.spatial_dims], False

    def forward(  # type: ignore[override]
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
        down_block_additional_residuals: Sequence[torch.Tensor] | None = None,
        mid_block_additional_residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Predict for the noisy image ``x`` at ``timesteps``.

        Args:
            x: (N, in_channels, *spatial), float; noisy image and condition, concatenated.
            timesteps: (N,), in [0, T). None, for tools that know one input only, as MONAI's ``verify_net_in_out``: 0,
                and the last class where no ``class_labels`` are given; refused in training.
            context: (N, L, cross_attention_dim), for a network made with ``with_conditioning=True``, or None.
            class_labels: (N,) integer; None for a network without classes.
            down_block_additional_residuals: added to the skip connections, one for each, as MONAI's ``ControlNet``
                gives them, or None.
            mid_block_additional_residual: added to what the middle block returns, or None.

        Returns:
            (N, out_channels, *spatial), in the dtype of ``x``.

        Raises:
            ValueError: when a side of ``x`` is no multiple of ``divisor``, time steps or class labels are missing, a
                ``context`` is given to a network without conditioning or missing, or "fp16" is to be trained.
        """
        if (context is not None) != self.with_conditioning:
            needed = "needs a context, which samplers and trainers here do not pass"
            needed = needed if context is None else "takes no context"
            raise ValueError(f"A network with with_conditioning={self.with_conditioning} {needed}.")
        if timesteps is None:
            if self.training:
                raise ValueError("timesteps are required in training.")
            timesteps = torch.zeros(len(x), dtype=torch.long, device=x.device)
            if class_labels is None and self.num_class_embeds is not None:
                class_labels = torch.full_like(timesteps, self.num_class_embeds - 1)
        if any(side % self.divisor for side in x.shape[2:]):
            raise ValueError(f"Every side must be a multiple of {self.divisor}, got {tuple(x.shape[2:])}.")
        dtype, weights, given = self._dtype(x), self._weight.dtype, x.dtype
        x = x.to(weights)
        if self.mask_channels:
            x = torch.cat([x, mask_coordinates(x[:, -self.mask_channels :])], dim=1)
        with autocast(x.device.type, dtype, weights):
            h = pixelunshuffle(x, self.spatial_dims, self.patch_size) if self.patch_size > 1 else x
            memory_format = resolve_memory_format(self.memory_format, x.device, self.spatial_dims, dtype)
            if memory_format is not None:
                h = h.contiguous(memory_format=memory_format)
            temb = self._embed(timesteps, class_labels)
            residuals = down_block_additional_residuals, mid_block_additional_residual
            features = self._features(h, temb, context, *residuals)
            output = self._unfold(self.out(features))
            if self.refiner is not None:
                output = self._run(self.refiner, x, output, self._unfold(features), temb)
        return output.to(given)

    def running_precision(self, device: torch.device | str | None = None) -> str:
        """
        What ``precision`` comes to, for a record of how a result was made.

        Args:
            device: where the network will run; None: where its weights are.

        Returns:
            "fp32", "bf16" or "fp16"; that of the weights themselves where they were converted, as by ``half()``.
        """
        weight = self._weight
        dtype = resolve_precision(self.precision, torch.device(device or weight.device))
        return precision_name(dtype if weight.dtype is torch.float32 else weight.dtype)

    def example_inputs(self, batch: int = 1) -> dict[str, torch.Tensor]:
        """The smallest inputs that stand for all, by name, for tools that trace the network; zeros."""
        x = torch.zeros(batch, self.input_channels, *[4 * self.divisor] * self.spatial_dims).to(self._weight)
        names = ["timesteps", *(["class_labels"] if self.num_class_embeds is not None else [])]
        return {"x": x, **{name: torch.zeros(batch, dtype=torch.long, device=x.device) for name in names}}

    def __prepare_scriptable__(self) -> ScriptedDenoiser:
        """What ``torch.jit.script`` compiles in this network's place: its trace in fp32, see ``ScriptedDenoiser``."""
        if self.with_conditioning:
            raise ValueError("A network with with_conditioning=True has no TorchScript form here.")
        chosen, self.precision = self.precision, "fp32"  # a trace would bring one machine's choice to all
        try:
            example = self.example_inputs(2)
            zeros = torch.zeros_like(example["timesteps"])  # of its own: a trace tells tensors by identity
            return ScriptedDenoiser(self, {"class_labels": zeros, **example}, self.num_class_embeds or 0)
        finally:
            self.precision = chosen

    @property
    def _weight(self) -> torch.Tensor:
        """Of the first convolution: all weights have its dtype and device."""
        return self.conv_in.conv.weight  # type: ignore[union-attr, return-value]

    def _dtype(self, x: torch.Tensor) -> torch.dtype:
        """The dtype to compute in: that of the weights where they were converted, else by ``precision``."""
        dtype = self._weight.dtype
        # On CPUs with AMX, a strided bfloat16 convolution of maps at most two wide reads memory nothing wrote: NaN.
        narrow = x.device.type == "cpu" and min(x.shape[2:]) <= self.divisor
        if narrow and dtype is torch.bfloat16:
            raise ValueError(
                f"On a CPU, weights in bfloat16 need sides above {self.divisor}, got {tuple(x.shape[2:])}."
            )
        if dtype is torch.float32 and not narrow:
            dtype = resolve_precision(self.precision, x.device)
        if dtype is torch.float16 and self.training and torch.is_grad_enabled():
            raise ValueError(
                "precision 'fp16' is for inference: in training small gradients would vanish without a word. Use "
                "'bf16', or 'fp32' with the trainer's amp, which scales the loss."
            )
        return dtype

    def _unfold(self, x: torch.Tensor) -> torch.Tensor:
        return pixelshuffle(x, self.spatial_dims, self.patch_size) if self.patch_size > 1 else x

    def _embed(self, timesteps: torch.Tensor, class_labels: torch.Tensor | None) -> torch.Tensor:
        embedding = get_timestep_embedding(timesteps, self.block_out_channels[0], self.max_period)
        embedding = self.time_embed(embedding.to(next(self.time_embed.parameters()).dtype))
        if self.num_class_embeds is not None:
            if class_labels is None:
                raise ValueError("This network is class-conditional: class_labels is required.")
            embedding = embedding + self.class_embedding(class_labels)
        return embedding

    def _features(
        self,
        x: torch.Tensor,
        temb: torch.Tensor,
        context: torch.Tensor | None,
        skip_residuals: Sequence[torch.Tensor] | None,
        middle_residual: torch.Tensor | None,
    ) -> torch.Tensor:
        h = self.conv_in(x)
        skips = [h]
        for block in self.down_blocks:
            h, outputs = self._run(block, h, temb, context)
            skips.extend(outputs)
        if skip_residuals is not None:
            skips = [skip + residual for skip, residual in zip(skips, skip_residuals, strict=True)]
        h = self._run(self.middle_block, h, temb, context)
        if middle_residual is not None:
            h = h + middle_residual
        for block in self.up_blocks:
            n = len(block.resnets)  # type: ignore[arg-type]
            h = self._run(block, h, skips[-n:], temb, context)
            del skips[-n:]
        return h

    def _run(self, block: Callable[..., Any], *args: Any) -> Any:
        if self.use_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)
