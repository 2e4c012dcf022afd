"""Every name in metrics/ and params.yaml has words, and values are written as people read them."""

import pandas as pd
import pytest
from project import METRICS, ROOT
from results import HISTORY, PREDICTIONS

from cola.core import params
from cola.experiments import data_curve
from cola.report import words


def test_every_name_of_the_metrics_has_words():
    names = {name for keys in METRICS.values() for name in keys.split()} | {*HISTORY, *PREDICTIONS} - {
        "sentence_source"
    }
    assert len(names) > 35
    assert names - words.WORDS.keys() == set()


def test_every_setting_has_words_of_its_own():
    names = params.flatten(params.load(ROOT / "params.yaml"))
    assert names.keys() - words.WORDS.keys() == set()
    assert pd.Series([words.words(name) for name in names]).is_unique


def test_no_words_are_of_names_that_are_gone():
    names = {name for keys in METRICS.values() for name in keys.split()} | {*HISTORY, *PREDICTIONS, "source"}
    names |= {*data_curve.METHODS}
    assert words.WORDS.keys() - names - params.flatten(params.load(ROOT / "params.yaml")).keys() == set()


def test_words_have_no_underscore():
    assert words.words("mcc_low") == "MCC, lower end of the 95% interval"
    assert not [text for text in words.WORDS.values() if "_" in text]
    assert words.words("a_metric_of_yours") == "a metric of yours"


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
