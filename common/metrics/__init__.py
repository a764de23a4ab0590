"""Metric classes and their functions, and intervals."""
