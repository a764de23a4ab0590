"""Transforms that MONAI lacks: conditions from masks, checks, scaling that can be undone, saving."""
