"""Four proofs that this is the same fine-tuning: step, trajectory, outcome, bytes (docs/reproduction.md)."""
