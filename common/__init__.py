"""Conditional diffusion for medical images: what the bundles share, laid out as MONAI is."""
