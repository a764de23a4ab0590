"""The app's own code."""
