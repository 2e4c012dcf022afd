"""The report as one page: whole, escaped, and without a request."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from results import DATA_CURVE, PREDICTIONS, SOURCE

from cola.core import files, params, paths
from cola.experiments import seeds
from cola.report import page, references

SEEDS_MISSING = "metrics/seeds.json is not shown: its corpus, encoder or settings are not those of this result."


class Outline(HTMLParser):
    """The tags, the addresses, the headings and the text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""
        self.feed(html)
        self.headings = re.findall("<h2>(.*)</h2>", html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text += data


def render():
    return Outline(page.render("none"))


def write_seeds():
    """Write metrics/seeds.json of two seeds of the recipe in the working directory."""
    summary = seeds.summarize({1: 0.5, 2: 0.6}, SOURCE, params.load(paths.PARAMS), references.read())
    files.write_json(paths.SEEDS, summary)


def replace(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def test_the_page_has_everything_and_makes_no_request(result):
    html = page.render("none")
    page.main()
    assert paths.REPORT.read_text() == html, "the same result is the same page"
    outline = Outline(html)
    top = ("cola, tiny/bert", "0.432", "0.123 to 0.700", "not comparable", "this run")
    positions = [
        outline.text.index(words) for words in (*top, "Training", "Williams 1980", "47", "train.learning_rate")
    ]
    assert positions == sorted(positions)
    assert outline.headings == [
        *("Training", "Five sentences", "Confusion matrix and calibration", "Sources", "Batches"),
        *("Mistakes with the highest probability", "Scores", "Run"),
    ]
    assert outline.tags.count("svg") == 6
    assert "script" not in outline.tags, "a sentence became code"
    assert "<script>alert(1)</script>" in outline.text
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in outline.addresses)
    assert len(outline.addresses) > 10
    assert not re.search(r"url\((?!#)|@import|<link", html)
    assert "currentColor" in html
    assert "#000000" not in html, "the figures have the page's text colour"
    no_settings = re.sub(r"[a-z_]+\.[a-z_]+", "", outline.text).replace("w_80", "")
    assert not re.search("[a-z]_[a-z]|True|False|None", no_settings), "names and values are words"


def test_a_run_is_drawn_beside_the_references_of_its_corpus(result):
    another_corpus = {**SOURCE, "corpus": {"name": "minimal_pairs", "revision": None}}
    for stem, mccs, source in (
        ("tutorial", [0.498], {}),
        ("public_runs", [0.52, 0.56], {}),
        ("bert", [0.25, 0.75], SOURCE),
        ("MiniLM", [0.3, 0.4], another_corpus),
    ):
        files.write_json(paths.REFERENCE / f"{stem}.json", {"runs": [{"mcc": mcc} for mcc in mccs]})
        files.write_json(paths.REFERENCE / stem / "source.json", source)
    text = render().text
    assert "bert here, 2 seeds: mean 0.500" in text
    figure = text.split("its encoder is google-bert/bert-base-uncased")[1].split("Training took")[0]
    rows = re.findall("this run|bert here|the tutorial|bert-base-uncased|MiniLM", figure)
    assert rows == ["this run", "bert here", "the tutorial", "bert-base-uncased", "bert-base-uncased"]


def test_the_runs_device_and_precision_stand_beside_the_settings(result):
    run, settings = page.make_last_sections(SOURCE, "none")[-1].tables
    assert dict(run.itertuples(index=False))["precision"] == "float32"
    assert dict(settings.itertuples(index=False))["precision"] == "auto"


def test_seeds_of_this_recipe_are_shown(result):
    write_seeds()
    replace("params.yaml", "seed: 42", "seed: 1")  # another seed, the same recipe
    (section,) = page.make_experiment_sections(SOURCE)
    assert "mean 0.550, 95% interval" in Outline(page.draw_svg(*section.drawings)).text


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("params.yaml", "epochs: 4", "epochs: 3"),
        ("models/finetuned/source.json", '"name": "cola"', '"name": "minimal_pairs"'),
        ("models/finetuned/source.json", "b" * 64, "0" * 64),  # an encoder in a folder, whose weights changed
    ],
)
def test_seeds_of_another_recipe_are_not_shown(result, file, old, new):
    write_seeds()
    replace(file, old, new)
    source = files.read_json(paths.FINETUNED / "source.json")
    assert page.make_experiment_sections(source) == [page.Section("Seeds", SEEDS_MISSING)]
    files.write_json(paths.SEEDS, ["an edit"])
    assert page.make_experiment_sections(source) == [page.Section("Seeds", SEEDS_MISSING)]


@pytest.mark.parametrize(("epochs", "figures"), [(4, [2, 1]), (3, [0])])
def test_a_data_curve_is_shown_beside_a_result_of_its_recipe(result, epochs, figures):
    recipe = references.describe_recipe(SOURCE, params.load(paths.PARAMS))
    files.write_json(paths.DATA_CURVE, DATA_CURVE | {"recipe": [recipe]})
    replace("params.yaml", "  epochs: 4", f"  epochs: {epochs}")
    sections = page.make_experiment_sections(SOURCE)
    assert [len(section.drawings) for section in sections] == figures
    assert ("not shown" in sections[0].text) == (epochs == 3)


@pytest.mark.parametrize("name", ["$a_b$ [/neg]", "$\\frac{$ <b>&amp;", "\\$a$ {{ test }}"])
def test_names_are_shown_as_they_are(result, name):
    files.write_csv(paths.PREDICTIONS, PREDICTIONS.assign(label=name))
    source = {"source": [name], "publication": "", "sentences": 1, "accuracy": 1, "mcc": 0.5}
    files.write_csv(paths.PER_SOURCE, pd.DataFrame(source))
    files.write_json(paths.FINETUNED / "source.json", {**SOURCE, "corpus": {"name": name, "revision": None}})
    text = render().text
    assert f"{name}, tiny/bert" in text, "the title"
    assert f"{name} (1)" in text, "the figure of the sources"
    assert text.count(name) >= 8, "the confusion matrix, and the tables of mistakes, sources and facts"


def test_a_page_of_20_000_sources_shows_the_largest_and_letters_without_a_font_warn_of_nothing(result, recwarn):
    names = [f"https://example.org/{number}" for number in range(20_000)]
    predictions = pd.DataFrame({"sentence_source": names, "label": "问题", "predicted": "陈述", "correct": False})
    files.write_csv(paths.PREDICTIONS, predictions.assign(sentence="a", probability=0.5))
    sources = pd.DataFrame({"source": names, "publication": "", "sentences": 1, "accuracy": 0.0, "mcc": 0.0})
    files.write_csv(paths.PER_SOURCE, sources)
    assert render().text.count("https://example.org/") == 30 * 2, "in the figure and the table"
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
