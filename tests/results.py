"""The result files of a small run, for tests of the code that shows them."""

import shutil

import pandas as pd
from project import ROOT

from cola.core import files, paths
from cola.report.references import Reference

PINNED = "86b5e0934494bd15c9632b12f734a8a67f723594"
TUTORIAL = {
    "corpus": {"name": "cola", "revision": "1.1"},
    "encoder": {"name": "google-bert/bert-base-uncased", "revision": PINNED},
}
DEMO = {
    "corpus": {"name": "minimal_pairs", "revision": None},
    "encoder": {
        "name": "sentence-transformers/all-MiniLM-L6-v2",
        "revision": "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    },
}
SOURCE = {
    "corpus": {"name": "cola", "revision": "1.1"},
    "encoder": {"name": "tiny/bert", "revision": "a" * 40, "files": {"model.safetensors": "b" * 64}},
}
REFERENCES = [
    Reference("the tutorial", TUTORIAL, [0.498]),
    Reference("3 public runs of its recipe", TUTORIAL, [0.52, 0.54, 0.56]),
    Reference("tiny here, 2 seeds", SOURCE, [0.2, 0.3]),
]
STEPS = pd.DataFrame({"step": [1, 2], "loss": [0.1 + 0.2, 0.6], "learning_rate": [1e-4, 5e-5]})
HISTORY = pd.DataFrame(
    {
        "epoch": [1],
        "training_loss": [0.65],
        "validation_loss": [0.7],
        "validation_accuracy": [0.8],
        "validation_mcc": [0.25],
    }
)
TIMINGS = {"training_seconds": 3.0, "validation_seconds": 1.0, "device": "cpu, 2 threads", "precision": "float32"}
PREDICTIONS = pd.DataFrame(
    {
        "sentence_source": "w_80",
        "sentence": ["<script>alert(1)</script>", "He left."],
        "label": ["acceptable", "unacceptable"],
        "predicted": ["unacceptable", "unacceptable"],
        "probability": [0.9, 0.8],
        "correct": [False, True],
    }
)


def write_results(weights=b"one", steps=STEPS, mcc=0.5):
    """Write the stages' files of a training into the working directory."""
    shutil.copy(ROOT / "params.yaml", ".")
    with files.atomic_folder(paths.FINETUNED) as folder:
        files.write_json(folder / "source.json", SOURCE)
        (folder / "model.safetensors").write_bytes(weights)
    splits = {"train": "1" * 64, "validation": "2" * 64, "test": "3" * 64}
    sums = "".join(f"{digest}  {split}.parquet\n" for split, digest in splits.items())
    files.write_text(paths.TOKENIZED / files.CHECKSUMS, sums)
    files.write_json(paths.CORPUS_METRICS, {"longest_sentence": 47})
    files.write_json(paths.TRAIN_METRICS, {})
    files.write_csv(paths.HISTORY, HISTORY)
    files.write_csv(paths.STEPS, steps)
    files.write_json(paths.TIMINGS, TIMINGS)
    files.write_json(paths.TEST_METRICS, {"mcc": mcc, "sentences": 2})
    files.write_csv(paths.MCC_PER_BATCH, pd.DataFrame({"batch": [0], "mcc": [mcc]}))
    files.write_csv(paths.PREDICTIONS, PREDICTIONS)
    analysis = {"mcc_low": 0.1234, "mcc_high": 0.7, "calibration_error": 0.125, "bag_of_words_mcc": 0.1}
    files.write_json(paths.ANALYSIS, analysis)
    sources = {"source": ["w_80"], "publication": ["Williams 1980"], "sentences": [1], "accuracy": [1.0], "mcc": [mcc]}
    files.write_csv(paths.PER_SOURCE, pd.DataFrame(sources))
    calibration = pd.DataFrame({"sentences": [1], "confidence": [0.75], "accuracy": [1.0]})
    files.write_csv(paths.CALIBRATION, calibration)
    files.write_json(paths.SAMPLES, PREDICTIONS.drop(columns="sentence_source").to_dict("records"))


def _estimate(mean, *mccs):
    return {"mcc": list(mccs), "mean": mean, "low": mean - 0.125, "high": mean + 0.125}


def _make_epochs(method, *mccs):
    rows = [{"epoch": epoch, "validation_mcc": mcc, "seconds": 60.0 * epoch} for epoch, mcc in enumerate(mccs, 1)]
    return {"way": method, "rows": rows}


DATA_CURVE = {  # contents of data_curve.json: two sizes, two seeds
    "curve": [
        {
            "sentences": sentences,
            "pretrained": _estimate(pretrained, pretrained - 0.0625, pretrained + 0.0625),
            "random_weights": _estimate(0.0, 0.0, 0.0),
            "bag_of_words": _estimate(0.25, 0.25, 0.25),
            "differences": [
                {"of": "pretrained", "to": "bag_of_words", "mean": pretrained - 0.25, "low": -0.0625, "high": 0.5}
            ],
        }
        for sentences, pretrained in ((100, 0.125), (7695, 0.5))
    ],
    "epochs": [_make_epochs("pretrained", 0.125, 0.375), _make_epochs("random_weights", 0.0, 0.125)],
    "bag_of_words_validation_mcc": [0.125, 0.25],
    "sources": [
        {"source": "passive", "sentences": 60, "pretrained": 0.25, "random_weights": 0.0, "bag_of_words": 0.125},
        {"source": "case", "sentences": 40, "pretrained": 0.75, "random_weights": 0.0, "bag_of_words": -0.125},
    ],
}
