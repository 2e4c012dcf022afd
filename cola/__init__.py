import os

# How PyTorch's threads wait for each other; OpenMP reads this once, as PyTorch loads. Threads that spin for long make
# training many times slower where another process keeps a core busy. Sleeping threads (passive) make a MiniLM step 50%
# slower. So with GNU's OpenMP they spin for up to 3,000 turns of 10 ns or more, then sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
# Large tensors lie in huge pages of 2 MB where Linux has them: the optimizer is 25% faster.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
