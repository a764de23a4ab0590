"""Networks, their weights, precision and memory."""
