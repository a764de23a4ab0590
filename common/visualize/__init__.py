"""Every picture: previews, sheets, slices."""
