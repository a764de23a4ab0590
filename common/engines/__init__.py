"""Handlers around MONAI's trainer: guards, seeding, checkpoints, progress."""
