"""The report as one page: whole, escaped, and without a request."""

import re
import time
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
from dvc.repo import Repo
from results import DATA_CURVE, PREDICTIONS, SOURCE, write_results

from cola.core import files, params, paths
from cola.core.errors import UserError
from cola.experiments import seeds
from cola.report import page, references, workspace


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the results of a run, of which the test MCC is 0.4321."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    write_results(mcc=0.4321)
    files.write_json(paths.SAMPLES, PREDICTIONS.drop(columns="sentence_source").to_dict("records"))


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


def write_seeds():
    """Write metrics/seeds.json of two seeds of the recipe in the working directory."""
    source = files.read_json(paths.FINETUNED / "source.json")
    summary = seeds.summarize({1: 0.5, 2: 0.6}, source, params.load(paths.PARAMS), references.read())
    files.write_json(paths.SEEDS, summary)


def write_reference(stem, mccs, source=None):
    """Write metrics/reference/STEM.json, and of a measured one its source.json, in the working directory."""
    files.write_json(paths.REFERENCE / f"{stem}.json", {"runs": [{"mcc": mcc} for mcc in mccs]})
    if source:
        files.write_json(paths.REFERENCE / stem / "source.json", source)


def seeds_section():
    (section,) = [section for section in page.sections(page.read(), "none") if section.heading == "Seeds"]
    return section


def test_the_page_has_all_and_asks_nobody(project):
    page.main()
    text = paths.REPORT.read_text()
    outline = Outline(text)
    for words in ("0.432", "0.123 to 0.700", "not comparable", "Williams 1980", "47", "train.learning_rate", "2e-05"):
        assert words in outline.text, words
    assert outline.tags.count("svg") == 6
    assert "script" not in outline.tags, "a sentence became code"
    assert "<script>alert(1)</script>" in outline.text
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in outline.addresses)
    assert len(outline.addresses) > 10
    assert "currentColor" in text
    assert "#000000" not in text, "the figures have the page's colour of text"
    assert not re.search(r"url\((?!#)|@import|<link", text)
    assert "Seeds" not in outline.text


def test_the_page_begins_with_the_result_and_ends_with_what_was_run(project):
    write_seeds()
    paths.PARAMS.write_text(paths.PARAMS.read_text().replace("seed: 42", "seed: 1"))  # another seed, the same recipe
    text = Outline(page.render(page.read(), "none")).text
    assert "mean 0.550, 95% interval" in text
    top = ["cola, tiny/bert", "0.432", "0.123 to 0.700", "its encoder is", "Test MCC", "Training log"]
    places = [text.index(words) for words in top]
    assert places == sorted(places)
    assert [section.heading for section in page.sections(page.read(), "none")] == [
        *("Training log", "Five sentences", "Confusion and calibration", "Sources", "Batches", "The surest mistakes"),
        *("Seeds", "Scores", "What was run"),
    ]


def test_a_run_is_drawn_beside_the_references_of_its_corpus(project):
    write_reference("tutorial", [0.498])
    write_reference("public_runs", [0.52, 0.56])
    write_reference("bert", [0.25, 0.75], SOURCE)
    write_reference("MiniLM", [0.3, 0.4], {**SOURCE, "corpus": {"name": "minimal_pairs", "revision": None}})
    text = Outline(page.render(page.read(), "none")).text
    comparable, others = text[: text.index("Training log")].split("with another encoder, not comparable:")[:2]
    assert "bert here, 2 seeds: mean 0.500" in comparable, "the text"
    assert comparable.count("bert here, 2 seeds") == 2, "the text, and the row"
    assert "the tutorial, bert-base-uncased" in others
    assert "2 public runs of its recipe, bert-base-uncased" in others
    assert "MiniLM" not in text, "another corpus"


def test_names_of_files_are_words_and_values_have_units(project):
    files.write_json(paths.TIMINGS, {**files.read_json(paths.TIMINGS), "training_seconds": 363.8449})
    text = Outline(page.render(page.read(), "none")).text
    assert "6:04" in text
    assert "363" not in text
    no_settings = re.sub(r"[a-z_]+\.[a-z_]+", "", text)  # which have the names that people type
    assert not re.search(r"[a-z]_[a-z]", no_settings.replace("w_80", ""))
    assert not re.search("True|False|None", text)


def test_device_and_precision_are_those_of_the_run_beside_those_of_the_settings(project):
    run, settings = page.sections(page.read(), "none")[-1].tables
    assert dict(run.itertuples(index=False))["precision"] == "float32"
    assert dict(settings.itertuples(index=False))["precision"] == "auto"


@pytest.mark.parametrize(
    ("file", "text", "other"),
    [
        ("params.yaml", "epochs: 4", "epochs: 3"),
        ("models/finetuned/source.json", '"name": "cola"', '"name": "minimal_pairs"'),
        ("models/finetuned/source.json", '"name": "tiny/bert"', '"name": "tiny/other"'),
        ("models/finetuned/source.json", "a" * 40, "0" * 40),
        ("models/finetuned/source.json", "b" * 64, "0" * 64),  # an encoder in a folder, of which the weights changed
    ],
)
def test_seeds_of_another_recipe_are_not_shown(project, file, text, other):
    write_seeds()
    path = Path(file)
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, other))
    section = seeds_section()
    assert section.text == (
        "metrics/seeds.json is not shown: its corpus, encoder or settings are not those of this result."
    )
    assert not section.figures


@pytest.mark.parametrize(("epochs", "shown"), [(4, [2, 1]), (3, [0])])
def test_a_data_curve_is_shown_beside_a_result_of_its_recipe(project, epochs, shown):
    source, settings = files.read_json(paths.FINETUNED / "source.json"), params.load(paths.PARAMS)
    files.write_json(paths.DATA_CURVE, DATA_CURVE | {"recipe": [references.describe_recipe(source, settings)]})
    paths.PARAMS.write_text(paths.PARAMS.read_text().replace("  epochs: 4", f"  epochs: {epochs}"))
    sections = page.sections(page.read(), "none")
    place = [section.heading for section in sections].index("Data curve")
    found = sections[place : place + len(shown)]
    assert [len(section.figures) for section in found] == shown
    assert ("not shown" in found[0].text) == (epochs == 3)


@pytest.mark.parametrize("name", ["$a_b$", "$\\frac{$", "\\$a$", "[/neg]", "<b>&amp;", "{{ test }}"])
def test_names_are_shown_as_they_are(project, name):
    files.write_csv(paths.PREDICTIONS, PREDICTIONS.assign(label=name))
    files.write_csv(
        paths.PER_SOURCE, pd.DataFrame({"source": [name], "publication": "", "sentences": 1, "accuracy": 1, "mcc": 0.5})
    )
    source = files.read_json(paths.FINETUNED / "source.json")
    source["corpus"]["name"] = name
    files.write_json(paths.FINETUNED / "source.json", source)
    text = Outline(page.render(page.read(), "none")).text
    assert f"{name}, tiny/bert" in text  # the title
    assert f"{name} (1)" in text  # the figure of the sources
    assert text.count(name) >= 8  # confusion matrix, twice; the tables of mistakes, of sources, and of what was run


def test_the_same_result_is_the_same_page(project):
    assert page.render(page.read(), "none") == page.render(page.read(), "none")


def test_thousands_of_sources_and_letters_that_the_font_lacks_are_drawn_in_seconds(project, recwarn):
    names = [f"https://example.org/{number}" for number in range(20_000)]
    pairs = pd.DataFrame({"sentence_source": names, "label": "问题", "predicted": "陈述", "correct": False})
    files.write_csv(paths.PREDICTIONS, pairs.assign(sentence="a", probability=0.5))
    sources = pd.DataFrame({"source": names, "publication": "", "sentences": 1, "accuracy": 0.0, "mcc": 0.0})
    files.write_csv(paths.PER_SOURCE, sources)
    started = time.monotonic()
    text = Outline(page.render(page.read(), "none")).text
    assert time.monotonic() - started < 10
    assert "19,970 others (19970)" in text, "the figure"
    assert text.count("https://example.org/") == 30 * 2
    assert [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)] == []


def test_a_result_whose_files_are_of_two_runs_has_no_page(project, monkeypatch):
    monkeypatch.setattr(workspace, "check_one_run", Mock(side_effect=UserError("not of one run")))
    with pytest.raises(UserError, match="not of one run"):
        page.main()
    assert not paths.REPORT.exists()


def test_a_missing_file_is_one_line_with_a_remedy(project):
    paths.PER_SOURCE.unlink()
    with pytest.raises(UserError, match=r"^metrics/per_source.csv is missing: `dvc repro` makes it$"):
        page.main()
    assert not paths.REPORT.exists()
