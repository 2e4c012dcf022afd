"""Many trainings: seeds, sweeps, a cluster. No stage's output depends on it."""
