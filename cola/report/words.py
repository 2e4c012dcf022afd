"""How people read the names and the values in metrics/ and params.yaml."""

from typing import Any

WORDS = {  # for names that stay unclear when underscores become spaces
    "test_positives": "test sentences of the positive class",
    "longest_sentence": "longest sentence (tokens)",
    "mean_length": "mean length of a sentence (tokens)",
    "training_seconds": "training time (minutes:seconds)",
    "validation_seconds": "validation time (minutes:seconds)",
    "peak_memory_gib": "peak memory (GiB)",
    "macro_f1": "F1, mean of the classes",
    "f1": "F1 of the positive class",
    "positives": "sentences of the positive class",
    "mcc_low": "MCC, lower end of the 95% interval",
    "mcc_high": "MCC, upper end of the 95% interval",
    "majority_accuracy": "accuracy of the most frequent label",
    "bag_of_words": "bag-of-words baseline",
    "bag_of_words_accuracy": "accuracy of the bag-of-words baseline",
    "bag_of_words_mcc": "MCC of the bag-of-words baseline",
    "threshold": "threshold that is best on validation",
    "threshold_mcc": "MCC with that threshold",
    "correct": "answer",
}


def spell(name: str) -> str:
    """'mcc_low' -> 'MCC, lower end of the 95% interval'. A setting keeps the name that people type."""
    return name if "." in name else WORDS.get(name, name.replace("_", " ").replace("mcc", "MCC"))


def format_value(name: str, value: Any) -> str:
    """Return a value as people read it: 363.8 of training_seconds -> '6:04', True of correct -> 'right'."""
    if isinstance(value, bool):
        return ("wrong", "right")[value] if name == "correct" else ("no", "yes")[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if name.endswith("_seconds"):
            return format_time(value)
        if name.endswith("_per_second"):
            return f"{value:,.0f}"
        return f"{value:g}" if "." in name else f"{value:.3f}"
    return "none" if value is None else str(value)


def shorten(text: str, length: int) -> str:
    """Cut a text to `length` characters; the last one is then an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def format_time(seconds: float) -> str:
    """75.2 -> '1:15', as the tutorial shows times; below ten seconds '9.9 s'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
