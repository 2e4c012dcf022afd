"""The card that lies beside the weights: what the model is, and the figures of its run."""

import ast
import re

import pandas as pd
import pytest
import tiny
import transformers
import yaml

from cola.fetch.sources import CORPORA, ENCODERS
from cola.train import model_card

HISTORY = pd.DataFrame({"epoch": [1, 2], "training_loss": [0.61234, 0.5], "validation_mcc": [0.1, 0.25]})


def source(corpus, encoder):
    def entry(described):
        return {name: getattr(described, name) for name in ("name", "revision", "license", "citation")}

    labels = {"labels": ["unacceptable", "acceptable"]}
    return {"corpus": entry(CORPORA[corpus]) | labels, "encoder": entry(ENCODERS[encoder])}


def test_a_card_says_what_the_model_is_and_has_the_figures_of_its_run():
    text = model_card.render(source("cola", "google-bert/bert-base-uncased"), tiny.RECIPE, HISTORY, 1200, 2)
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "apache-2.0",
        "base_model": "google-bert/bert-base-uncased",
        "pipeline_tag": "text-classification",
        "library_name": "transformers",
    }
    assert "\n# google-bert/bert-base-uncased, fine-tuned on cola\n\nTells apart: unacceptable, acceptable." in body
    assert "\n- 1,200 sentences trained on, 2 held out" in body
    assert "arXiv:1805.12471" in body
    assert "\n\n| setting | value |\n| --- | --- |\n| epochs | 2 |\n| batch_size | 8 |\n" in body
    assert "\n| learning_rate | 0.001 |\n" in body
    assert "\n| max_steps | None |\n" in body
    assert "\n| fast | True |\n\n## Figures\n" in body
    assert (
        "\n\n| epoch | training loss | validation mcc |\n| --- | --- | --- |\n"
        "| 1 | 0.612 | 0.1 |\n| 2 | 0.5 | 0.25 |\n\nThe test's figures"
    ) in body
    code = re.search(r"```python\n(.*?)```", body, re.DOTALL)[1]
    assert ast.unparse(ast.parse(code).body[1].value).endswith("'models/finetuned', truncation=True)")
    assert f"Saved\nwith transformers {transformers.__version__}.\n" in body
    assert "{" not in body
    assert text.endswith(
        "see `metrics/calibration.csv`.\n"
        "- Its test MCC is comparable with the tutorial's: corpus and encoder are the same.\n"
    )


def test_another_model_is_not_held_against_the_tutorials():
    text = model_card.render(
        source("minimal_pairs", "sentence-transformers/all-MiniLM-L6-v2"), tiny.RECIPE, HISTORY, 2, 2
    )
    assert text.endswith("\n- Its test MCC is not comparable with the tutorial's: corpus or encoder is another.\n")


@pytest.mark.parametrize("words", ["<b>&amp;</b> & 'x'", "{{ corpus }} {% if %} {# #}", "{0} %s", "$a$", "a: b #"])
def test_names_and_labels_stand_as_they_are(words):
    described = source("cola", "google-bert/bert-base-uncased")
    own = {"name": words, "revision": None, "license": words, "citation": words}
    described = {"corpus": described["corpus"] | own | {"labels": [words, "other"]}, "encoder": own}
    text = model_card.render(described, tiny.RECIPE, HISTORY, 2, 2)
    for line in (
        "license: other",
        f"# {words}, fine-tuned on {words}",
        f"- corpus: {words} ({words})",
        f"- license of the corpus: {words}",
        f"- encoder: {words}, revision none ({words}); license: {words}",
    ):
        assert f"\n{line}\n" in text
    assert f"Tells apart: {words}, other." in text
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == words
