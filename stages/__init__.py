import ctypes
import gc
import os
import signal
import sys

# A stage ends with the `dvc` that runs it, however that ends: else it would go on, and the next `dvc repro` would run a
# second one beside it. This comes before all imports, which take seconds.
if "DVC_STAGE" in os.environ and sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() == 1:  # it has ended already
        sys.exit(1)

# Imports make a million objects that stay, and collecting garbage among them takes a quarter of their time. errors.run
# turns it on again.
gc.disable()
