"""What people read for the names in metrics/ and params.yaml, and for their values."""

import re
from typing import Any

WORDS = {  # of the names that underscores as spaces would not explain
    # corpus.json
    "test_positives": "test sentences of the positive class",
    "longest_sentence": "longest sentence (tokens)",
    "mean_length": "mean length of a sentence (tokens)",
    "truncated_sentences": "sentences that were cut",
    # train.json, history.csv
    "validation_mcc": "validation MCC",
    # timings.json
    "training_seconds": "training time (minutes:seconds)",
    "validation_seconds": "validation time (minutes:seconds)",
    "sentences_per_second": "sentences a second, in training",
    "tokens_per_second": "tokens a second, in training",
    "peak_memory_gib": "peak memory (GiB)",
    # test.json, per_source.csv
    "mcc": "MCC",
    "macro_f1": "F1, mean of the classes",
    "f1": "F1 of the positive class",
    "positives": "sentences of the positive class",
    # analysis.json
    "mcc_low": "MCC, lower end of the 95% interval",
    "mcc_high": "MCC, upper end of the 95% interval",
    "majority_accuracy": "accuracy of always the same answer",
    "bag_of_words_accuracy": "accuracy of the bag-of-words baseline",
    "bag_of_words_mcc": "MCC of the bag-of-words baseline",
    "threshold": "threshold that is best on validation",
    "threshold_mcc": "MCC with that threshold",
    # predictions.csv, samples.json
    "correct": "answer",
    # data_curve.json
    "bag_of_words": "bag-of-words baseline",
}


def words(name: str) -> str:
    """'mcc_low' -> 'MCC, lower end of the 95% interval'. A setting keeps the name that people type."""
    return name if "." in name else WORDS.get(name, name.replace("_", " "))


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


def visible(text: str) -> str:
    """A text for a terminal: a character that would command it, or turn text around, is its code, such as \\x1b."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lambda sign: ascii(sign[0])[1:-1], text)


def clock(seconds: float) -> str:
    """75.2 -> '1:15', as the tutorial shows times; below ten seconds with a decimal."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
