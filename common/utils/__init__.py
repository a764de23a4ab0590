"""Files: atomic writes and hashes; what every room uses."""
