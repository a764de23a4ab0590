"""What generated volumes are measured by."""
