import ctypes
import gc
import os
import signal
import sys

# A stage ends with the `dvc` that runs it, however that ends: else it would go on, and the next `dvc repro` would run a
# second one beside it. This comes before all imports, which take seconds. dvc.yaml passes the process id of dvc: if the
# parent is another process by now, dvc had died before this asked to be told.
if "DVC_STAGE" in os.environ and sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.environ.pop("DVC_PID", "") not in ("", str(os.getppid())):
        sys.exit("error: the dvc that started this stage has died; run `dvc repro` again")

# Imports make a million objects that stay, and collecting garbage among them takes a quarter of their time. errors.run
# turns it on again.
gc.disable()
