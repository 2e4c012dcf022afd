"""The paths of the project, relative to its root, where DVC starts the stages."""

import os
from pathlib import Path

PARAMS = Path("params.yaml")
# Scratch files that survive a failed stage. They are in the main project even where DVC runs an experiment in a copy.
SCRATCH = Path(os.environ.get("DVC_ROOT", ".")) / ".dvc" / "tmp"

# fetch
CORPORA = Path("corpora")  # the user's corpora; fetch runs again when a file in it changes
RAW = Path("data/raw")
PRETRAINED = Path("models/pretrained")

# tokenize
TOKENIZED = Path("data/tokenized")
CORPUS_METRICS = Path("metrics/corpus.json")

# train
FINETUNED = Path("models/finetuned")
TRAIN_METRICS = Path("metrics/train.json")
HISTORY = Path("metrics/history.csv")
STEPS = Path("metrics/steps.csv")
TIMINGS = Path("metrics/timings.json")

# evaluate
TEST_METRICS = Path("metrics/test.json")
MCC_PER_BATCH = Path("metrics/mcc_per_batch.csv")
PREDICTIONS = Path("metrics/predictions.csv")
ANALYSIS = Path("metrics/analysis.json")
PER_SOURCE = Path("metrics/per_source.csv")
CALIBRATION = Path("metrics/calibration.csv")

# sample_predict
SAMPLES = Path("metrics/samples.json")

# make seeds
SEEDS = Path("metrics/seeds.json")
SEEDS_PICTURE = Path("metrics/seeds.png")

# make data-curve
DATA_CURVE = Path("metrics/data_curve.json")
DATA_CURVE_PICTURE = Path("metrics/data_curve.png")
DATA_CURVE_EPOCHS = Path("metrics/data_curve_epochs.png")
DATA_CURVE_SOURCES = Path("metrics/data_curve_sources.png")

# make reference; published results are there, too
REFERENCE = Path("metrics/reference")

# make report
REPORT = Path("report.html")


def find_root() -> Path:
    """Return the main project's folder, where users' relative paths start, also in DVC's copy for an experiment."""
    return Path(os.environ.get("DVC_ROOT", ".")).absolute()
