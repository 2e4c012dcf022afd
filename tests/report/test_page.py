"""The report as one page: whole, escaped, and without a request."""

import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from test_mlflow_runs import ROOT, results

from cola.core import files, paths
from cola.core.errors import UserError
from cola.experiments import seeds
from cola.report import page

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


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    results()
    corpus, encoder = {"name": "cola", "revision": "1.1"}, {"name": "tiny/bert", "revision": "a" * 40}
    files.write_json(paths.FINETUNED / "source.json", {"corpus": corpus, "encoder": encoder})
    files.write_json(paths.TEST_METRICS, {"mcc": 0.4321, "sentences": 2})
    files.write_json(paths.ANALYSIS, {"mcc_low": 0.1234, "mcc_high": 0.7})
    files.write_csv(paths.PREDICTIONS, PREDICTIONS)
    files.write_json(paths.CORPUS_METRICS, {"longest_sentence": 47})
    files.write_json(paths.SAMPLES, PREDICTIONS[["sentence", "label"]].to_dict("records"))


class Outline(HTMLParser):
    """The tags, the addresses and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_has_all_and_asks_nobody(project):
    page.main()
    text = paths.REPORT.read_text()
    outline = Outline(text)
    for words in ("0.432", "0.123 to 0.700", "not comparable", "Williams 1980", "47", "train.learning_rate", "2e-05"):
        assert words in outline.text, words
    assert outline.tags.count("svg") == 5
    assert "script" not in outline.tags, "a sentence became code"
    assert "<script>alert(1)</script>" in outline.text
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in outline.addresses)
    assert len(outline.addresses) > 10
    assert not re.search(r"url\((?!#)|@import|<link", text)
    assert "Seeds" not in outline.text


def test_seeds_are_on_the_page_where_there_are_any(project):
    files.write_json(paths.SEEDS, seeds.summary({1: 0.5, 2: 0.6}, comparable=True))
    outline = Outline(page.render())
    assert "Seeds" in outline.text
    assert "The mean agrees with that of the 26 public runs" in outline.text
    assert outline.tags.count("svg") == 6


def test_the_same_result_is_the_same_page(project):
    assert page.render() == page.render()


def test_a_result_that_is_not_there_is_missed_in_one_line(project):
    paths.PER_SOURCE.unlink()
    with pytest.raises(UserError, match=r"^metrics/per_source.csv is missing: `dvc repro` makes it$"):
        page.main()
    assert not paths.REPORT.exists()
