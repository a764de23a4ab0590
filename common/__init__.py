"""Conditional diffusion in MONAI's vocabulary: what the bundles' configs speak and MONAI lacks."""
