"""Networks: the denoising U-Net, its weights, its memory and its arithmetic."""
