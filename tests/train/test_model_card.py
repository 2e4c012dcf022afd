import ast
import re

import pandas as pd
import pytest
import tiny
import yaml

from cola.fetch.sources import CORPORA, ENCODERS
from cola.train import model_card

HISTORY = pd.DataFrame({"epoch": [1, 2], "training_loss": [0.61234, 0.5], "validation_mcc": [0.1, 0.25]})


def source(corpus, encoder):
    def entry(described):
        return {name: getattr(described, name) for name in ("name", "revision", "license", "citation")}

    labels = {"labels": ["unacceptable", "acceptable"]}
    return {"corpus": entry(CORPORA[corpus]) | labels, "encoder": entry(ENCODERS[encoder])}


def test_a_card_describes_the_model_and_has_its_trainings_figures():
    text = model_card.render(source("cola", "google-bert/bert-base-uncased"), tiny.RECIPE, HISTORY, 1200, 2)
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "apache-2.0",
        "base_model": "google-bert/bert-base-uncased",
        "pipeline_tag": "text-classification",
        "library_name": "transformers",
    }
    for part in (
        "\n# google-bert/bert-base-uncased, fine-tuned on cola\n\n",
        "\n- 1,200 training sentences, 2 validation sentences\n",
        "arXiv:1805.12471",
        "\n\n| setting | value |\n| --- | --- |\n| epochs | 2 |\n| batch_size | 8 |\n",
        "\n| max_steps | None |\n",
        "\n| epoch | training loss | validation mcc |\n| --- | --- | --- |\n| 1 | 0.612 | 0.1 |\n| 2 | 0.5 | 0.25 |\n",
        "is comparable with the tutorial",
    ):
        assert part in body
    code = re.search(r"```python\n(.*?)```", body, re.DOTALL)[1]
    assert ast.unparse(ast.parse(code).body[1].value).endswith("'models/finetuned', truncation=True)")
    assert "{" not in body
    minilm = source("minimal_pairs", "sentence-transformers/all-MiniLM-L6-v2")
    assert "is not comparable with the tutorial" in model_card.render(minilm, tiny.RECIPE, HISTORY, 2, 2)


@pytest.mark.parametrize("words", ["<b>&amp;</b> & 'x'", "{{ corpus }} {% if %} {# #}", "{0} %s", "$a$", "a: b #"])
def test_names_and_labels_are_shown_unchanged(words):
    entry = {"name": words, "revision": None, "license": words, "citation": words}
    described = {"corpus": entry | {"labels": [words, "second"]}, "encoder": entry}
    text = model_card.render(described, tiny.RECIPE, HISTORY, 2, 2)
    for line in (
        f"# {words}, fine-tuned on {words}",
        f"- corpus: {words} ({words})",
        f"- license of the corpus: {words}",
        f"- encoder: {words}, revision none ({words}); license: {words}",
    ):
        assert f"\n{line}\n" in text
    assert f"{words}, second." in text
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == words
