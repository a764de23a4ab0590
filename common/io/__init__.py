"""Files in and out: cases, weights, packages."""
