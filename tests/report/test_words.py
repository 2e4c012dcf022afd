"""Names and values are written as people read them."""

import pytest

from cola.report import words


@pytest.mark.parametrize(
    ("name", "value", "texts"),
    [
        ("mcc_low", 0.17229, ("MCC, lower end of the 95% interval", "0.172")),
        ("validation_mcc", -0.25, ("validation MCC", "-0.250")),
        ("training_sentences", 7695, ("training sentences", "7,695")),
        ("training_seconds", 363.8449, ("training time (minutes:seconds)", "6:04")),
        ("tokens_per_second", 5242.3, ("tokens per second", "5,242")),
        ("train.learning_rate", 2e-5, ("train.learning_rate", "2e-05")),
        ("train.max_steps", None, ("train.max_steps", "none")),
        ("train.fast", True, ("train.fast", "yes")),
        ("correct", False, ("answer", "wrong")),
        ("device", "cpu, 2 threads", ("device", "cpu, 2 threads")),
    ],
)
def test_names_and_values_are_words_and_settings_keep_their_names(name, value, texts):
    assert (words.spell(name), words.format_value(name, value)) == texts


@pytest.mark.parametrize(("seconds", "text"), [(9.94, "9.9 s"), (10, "0:10"), (59.6, "1:00"), (3725, "62:05")])
def test_times_are_minutes_and_seconds(seconds, text):
    assert words.format_time(seconds) == text
