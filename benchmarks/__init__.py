import cola  # noqa: F401  before PyTorch loads: it says how threads wait
