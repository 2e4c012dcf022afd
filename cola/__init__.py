import os

# Threads that wait for each other sleep instead of spinning; PyTorch's OpenMP reads this once, as it loads. Spinning is
# a little faster on an idle machine, and many times slower wherever another process keeps one of the cores busy.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
