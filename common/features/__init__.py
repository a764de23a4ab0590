"""Feature networks: their registry, training, and the segmenter that reads masks back."""
