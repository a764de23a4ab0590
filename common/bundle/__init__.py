"""Configs shared and packed, and bundles opened from Python."""
