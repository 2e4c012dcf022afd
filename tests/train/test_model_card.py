import pandas as pd
import tiny
import yaml

from cola.data.sources import CORPORA, ENCODERS
from cola.train import model_card

HISTORY = pd.DataFrame({"epoch": [1, 2], "training_loss": [0.61234, 0.5], "validation_mcc": [0.1, 0.25]})


def source(corpus, encoder):
    def described(each):
        return {"name": each.name, "revision": each.revision, "license": each.license, "citation": each.citation}

    labels = {"labels": ["unacceptable", "acceptable"]}
    return {"corpus": described(CORPORA[corpus]) | labels, "encoder": described(ENCODERS[encoder])}


def test_a_card_says_what_the_model_is_and_has_the_figures_of_its_run():
    text = model_card.text(
        source("cola", "google-bert/bert-base-uncased"), tiny.RECIPE, HISTORY, 'He said "so".', 1200, 2
    )
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "apache-2.0",
        "base_model": "google-bert/bert-base-uncased",
        "pipeline_tag": "text-classification",
        "library_name": "transformers",
    }
    assert "# google-bert/bert-base-uncased, fine-tuned on cola" in body
    assert "Tells apart: unacceptable, acceptable." in body
    assert "1,200 sentences trained on, 2 held out" in body
    assert "arXiv:1805.12471" in body
    assert "| learning_rate | 0.001 |" in body
    assert (
        "| epoch | training loss | validation mcc |\n| --- | --- | --- |\n| 1 | 0.612 | 0.1 |\n| 2 | 0.5 | 0.25 |"
        in body
    )
    assert "(\"He said 'so'.\")" in body
    assert "may be held against the tutorial's" in body
    assert "{" not in body


def test_another_model_is_not_held_against_the_tutorials():
    text = model_card.text(
        source("minimal_pairs", "sentence-transformers/all-MiniLM-L6-v2"), tiny.RECIPE, HISTORY, "So.", 2, 2
    )
    assert "may not be held against the tutorial's" in text
