import gc
import os
import sys

from cola.core.processes import end_with_parent
from cola.report import recorder

# A stage ends with the `dvc` that runs it, however that ends: else it would go on, and the next `dvc repro` would run a
# second one beside it. This comes before the imports that take seconds. dvc.yaml passes the process id of dvc.
dvc = os.environ.pop("DVC_PID", "")
if "DVC_STAGE" in os.environ and not end_with_parent(int(dvc or os.getppid())):
    sys.exit("error: the dvc that started this stage has died; run `dvc repro` again")

# MLflow loads beside these stages, not after them. (torchrun's processes are told of no dvc: rank 0 alone records.)
if dvc and os.environ.get("DVC_STAGE") in ("train", "evaluate", "sample_predict"):
    recorder.start()

# Imports make a million objects that stay, and collecting garbage among them takes a quarter of their time. errors.run
# turns it on again.
gc.disable()
