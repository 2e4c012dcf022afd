"""`dvc exp run` without a warning for each output that is not there yet: in a fresh clone that is all of them."""

import logging
import sys

from dvc.cli import main

if __name__ == "__main__":
    # Before an experiment DVC restores the outputs of dvc.lock, and this module warns of those that are not in it. It
    # warns of nothing else.
    logging.getLogger("dvc_data.index.checkout").setLevel(logging.ERROR)
    sys.exit(main(["exp", "run", *sys.argv[1:]]))
