"""The classifier, its batches, its device and its predictions."""
