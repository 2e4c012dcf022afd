"""The tutorial's training loop, its speedups and its checkpoints."""
