"""The classifier, the batches that it takes, the device that it is on, and what it predicts."""
