import cola  # noqa: F401  sets how OpenMP's threads wait, before PyTorch loads
