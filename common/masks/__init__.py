"""Masks to generate from: shape model, phantoms, heads."""
