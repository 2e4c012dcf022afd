import os

# How PyTorch's threads wait for each other; OpenMP reads this once, as PyTorch loads. By default they spin for so long
# that another process which keeps a core busy makes training many times slower. Not spinning at all (passive) costs a
# quarter of the speed on an idle machine. So with GNU's OpenMP they spin a thousand turns, and none while there are
# more threads than cores, which model/cores.py sees to where others compute.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Large tensors lie in pages of 2 MB where Linux gives such: the optimizer's pass over them takes a quarter less.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
