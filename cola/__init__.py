import os

# How PyTorch's threads wait for each other; OpenMP reads this once, as PyTorch loads. Threads that spin make training
# many times slower where another process keeps a core busy; threads that sleep at once (passive) make a step of MiniLM
# take half as long again on an idle machine. So with GNU's OpenMP they spin for up to 30,000 turns of 10 ns or more
# each, and not at all while there are more threads than cores, which model/cores.py sees to where others compute.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
# Large tensors lie in pages of 2 MB where Linux gives such: the optimizer's pass over them takes a quarter less.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
