"""The analysis of a test score."""
