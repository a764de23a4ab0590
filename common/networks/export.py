"""Networks as TorchScript: what ``torch.jit.script`` and MONAI's ``ckpt_export`` make of them."""

# No "from __future__ import annotations": the compiler of TorchScript reads these annotations as types.
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class ScriptedDenoiser(nn.Module):
    """
    The trace of a denoising network in fp32, with the defaults that the network has.

    Attention and the choice of precision cannot be compiled, so the network is traced; batch and sides stay free.

    Args:
        network: called as ``network(x=..., timesteps=..., class_labels=...)``; without classes it ignores the last.
        example: one call's arguments by name, tensors; each side of ``x`` larger than the network's ``divisor``.
        num_classes: of the network; 0 for none.

    >>> from .unet import ConditionalDiffusionUNet
    >>> small = {"channels": (8, 16), "attention_levels": (False, True), "num_head_channels": 8, "norm_num_groups": 8}
    >>> scripted = torch.jit.script(ConditionalDiffusionUNet(2, 3, 1, num_res_blocks=1, **small))
    >>> scripted(torch.rand(2, 3, 8, 12), torch.tensor([9, 9])).shape
    torch.Size([2, 1, 8, 12])
    """

    def __init__(self, network: nn.Module, example: Mapping[str, Tensor], num_classes: int = 0) -> None:
        super().__init__()
        self.traced = traced(network, example)
        self.num_classes = num_classes

    def forward(self, x: Tensor, timesteps: Tensor | None = None, class_labels: Tensor | None = None) -> Tensor:
        """As ``ConditionalDiffusionUNet.forward``."""
        bare = timesteps is None
        t = torch.zeros(x.shape[0], dtype=torch.long, device=x.device) if timesteps is None else timesteps
        if class_labels is None:
            if self.num_classes > 0 and not bare:
                raise ValueError("This network is class-conditional: class_labels is required.")
            class_labels = torch.full((x.shape[0],), self.num_classes - 1, dtype=torch.long, device=x.device)
        return self.traced(x, t, class_labels)


class ScriptedImages(nn.Module):
    """The trace of a model that takes images alone; ``example`` is the batch that it is traced with."""

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.traced = traced(network, {"x": example})

    def forward(self, x: Tensor) -> Tensor:
        """As the model's, without further arguments."""
        return self.traced(x)


def traced(network: nn.Module, example: Mapping[str, Tensor]) -> torch.jit.ScriptModule:
    """Trace ``network`` in evaluation mode without gradients; its checks of shapes and ranges are not in the trace."""
    training = network.training
    with torch.no_grad(), warnings.catch_warnings():
        # The branches that a trace fixes are checks of the input, which the example has passed.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        try:
            return torch.jit.trace(network.eval(), example_kwarg_inputs=dict(example), check_trace=False)
        finally:
            network.train(training)
