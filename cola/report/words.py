"""What people read for the names in metrics/ and params.yaml, and for their values."""

from typing import Any

WORDS = {
    # corpus.json
    "training_sentences": "training sentences",
    "validation_sentences": "validation sentences",
    "test_sentences": "test sentences",
    "test_positives": "test sentences of the positive class",
    "longest_sentence": "longest sentence (tokens)",
    "mean_length": "mean length of a sentence (tokens)",
    "truncated_sentences": "sentences that were cut",
    # train.json, history.csv
    "epoch": "epoch",
    "training_loss": "training loss",
    "validation_loss": "validation loss",
    "validation_accuracy": "validation accuracy",
    "validation_mcc": "validation MCC",
    # timings.json
    "training_seconds": "training time (minutes:seconds)",
    "validation_seconds": "validation time (minutes:seconds)",
    "sentences_per_second": "sentences a second, in training",
    "tokens_per_second": "tokens a second, in training",
    "processes": "processes",
    "peak_memory_gib": "peak memory (GiB)",
    "device": "device",
    "precision": "precision",
    # test.json, per_source.csv
    "mcc": "MCC",
    "accuracy": "accuracy",
    "macro_f1": "F1, mean of the classes",
    "f1": "F1 of the positive class",
    "sentences": "sentences",
    "positives": "sentences of the positive class",
    "source": "source",
    # analysis.json
    "mcc_low": "MCC, lower end of the 95% interval",
    "mcc_high": "MCC, upper end of the 95% interval",
    "calibration_error": "calibration error",
    "majority_accuracy": "accuracy of always the same answer",
    "bag_of_words_accuracy": "accuracy of the bag-of-words baseline",
    "bag_of_words_mcc": "MCC of the bag-of-words baseline",
    "threshold": "threshold that is best on validation",
    "threshold_mcc": "MCC with that threshold",
    # predictions.csv, samples.json
    "sentence": "sentence",
    "label": "label",
    "predicted": "predicted",
    "probability": "probability",
    "correct": "answer",
    # data_curve.json
    "bag_of_words": "bag-of-words baseline",
    # params.yaml
    "seed": "seed",
    "fetch.corpus": "corpus",
    "fetch.encoder": "encoder",
    "fetch.encoder_revision": "encoder's revision, if not the pinned one",
    "tokenize.max_length": "longest sentence that is not cut (tokens)",
    "tokenize.validation_fraction": "training sentences kept for validation (fraction)",
    "tokenize.training_sentences": "training sentences drawn, if not all",
    "train.epochs": "epochs",
    "train.batch_size": "batch size in training (sentences)",
    "train.learning_rate": "learning rate",
    "train.adam_epsilon": "AdamW's epsilon",
    "train.weight_decay": "weight decay",
    "train.max_grad_norm": "gradient norm at which gradients are clipped",
    "train.pretrained": "pretrained weights, not random ones",
    "train.frozen_layers": "layers that keep their weights",
    "train.class_weights": "weights of the classes in the loss",
    "train.max_steps": "steps at most",
    "train.early_stopping": "epochs without a better validation MCC that end training",
    "train.micro_batch_tokens": "tokens computed at once, at most",
    "train.processes": "processes",
    "train.fast": "sentences packed, not padded",
    "evaluate.batch_size": "batch size in the test (sentences)",
    "sample_predict.seed": "seed of the five sentences",
}


def words(name: str) -> str:
    """'mcc_low' -> 'MCC, lower end of the 95% interval'."""
    return WORDS.get(name, name.replace("_", " "))


def value(name: str, value: Any) -> str:
    """What is under a name, for people: 363.8 of training_seconds -> '6:04', True of correct -> 'right'."""
    if isinstance(value, bool):
        return ("wrong", "right")[value] if name == "correct" else ("no", "yes")[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if name.endswith("_seconds"):
            return clock(value)
        if name.endswith("_per_second"):
            return f"{value:,.0f}"
        return f"{value:g}" if "." in name else f"{value:.3f}"
    return "none" if value is None else str(value)


def clock(seconds: float) -> str:
    """75.2 -> '1:15', as the tutorial shows times; below ten seconds with a decimal."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
