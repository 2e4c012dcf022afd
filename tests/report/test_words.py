"""Names and values are written as people read them."""

import pytest

from cola.report import words


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mcc_low", "MCC, lower end of the 95% interval"),
        ("calibration_error", "calibration error"),
        ("train.learning_rate", "train.learning_rate"),
    ],
)
def test_names_are_words_and_settings_are_what_people_type(name, text):
    assert words.words(name) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("mcc", 0.17229, "0.172"),
        ("training_sentences", 7695, "7,695"),
        ("training_seconds", 363.8449, "6:04"),
        ("validation_seconds", 9.94, "9.9 s"),
        ("tokens_per_second", 5242.3, "5,242"),
        ("train.learning_rate", 2e-5, "2e-05"),
        ("train.validation_fraction", 0.1, "0.1"),
        ("train.max_steps", None, "none"),
        ("train.fast", True, "yes"),
        ("correct", True, "right"),
        ("correct", False, "wrong"),
        ("device", "cpu, 2 threads", "cpu, 2 threads"),
    ],
)
def test_values_are_written_as_people_read_them(name, value, text):
    assert words.value(name, value) == text


@pytest.mark.parametrize(("seconds", "text"), [(9.94, "9.9 s"), (10, "0:10"), (59.6, "1:00"), (3725, "62:05")])
def test_a_clock_shows_minutes_and_seconds(seconds, text):
    assert words.clock(seconds) == text
