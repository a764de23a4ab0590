"""What stands in a `Compose`: conditions, degradations, checks, geometry."""
