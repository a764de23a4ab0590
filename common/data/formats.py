"""The old place of ``nifti_shape``; ``lists`` still asks here."""

from .nifti import nifti_shape as nifti_shape
