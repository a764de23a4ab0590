"""What is called as `inferer(inputs, network)`: samplers, tiles, training."""
