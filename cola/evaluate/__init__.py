"""What stands behind the one number of a test."""
