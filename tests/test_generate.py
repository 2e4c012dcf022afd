"""docs/generate.py writes outputs and tables between the comments of a document."""

import sys

import pytest
from project import ROOT

from cola.core import files, paths
from cola.core.errors import UserError
from docs import generate

DOCUMENT = "Before.\n\n<!-- table: references -->\nold\n<!-- end of table -->\n\nAfter.\n"


@pytest.fixture
def readme(tmp_path, monkeypatch):
    """The README.md of a folder with a reference, the tutorial, and the time that it took."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    files.write_json(paths.REFERENCE / "tutorial.json", {"runs": [{"mcc": 0.498}]})
    files.write_text(
        generate.FOUR_EPOCHS,
        "result,encoder,machine,seconds,source\nthe tutorial,bert-base-uncased,Tesla P100,210,reported\n",
    )
    files.write_text(tmp_path / "CONTRIBUTING.md", "")
    files.write_text(tmp_path / "README.md", DOCUMENT)
    return tmp_path / "README.md"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["generate", *arguments])
    generate.main()


def test_the_documents_show_the_committed_results(monkeypatch):
    """People have read every table and output that the documents show."""
    monkeypatch.chdir(ROOT)
    run(monkeypatch, "--check")
    shown = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    assert {name for name in generate.TABLES | generate.OUTPUTS if f": {name} " not in shown} == set()


def test_a_table_is_written_and_the_rest_stays(readme, monkeypatch, capsys):
    with pytest.raises(UserError, match=r"as they are: README.md \(references\); run `make docs`"):
        run(monkeypatch, "--check")
    assert readme.read_text() == DOCUMENT
    run(monkeypatch)
    assert readme.read_text() == (
        "Before.\n\n<!-- table: references -->\n\n"
        "| result | encoder | runs | test MCC | standard deviation | four epochs (minutes:seconds) |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| the tutorial | bert-base-uncased | 1 | 0.498 |  | 3:30, Tesla P100 |\n"
        "\n<!-- end of table -->\n\nAfter.\n"
    )
    assert capsys.readouterr().out == "written: README.md (references)\n"
    run(monkeypatch, "--check")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: nothing -->\n<!-- end of table -->", "README.md: no table has the name nothing"),
        ("<!-- output: references -->\n<!-- end of output -->", "README.md: no output has the name references"),
        ("<!-- table: references -->\n<!-- end of output -->", "README.md: a block has no end"),
    ],
)
def test_a_wrong_comment_is_refused_in_one_line(readme, monkeypatch, text, message):
    readme.write_text(text)
    with pytest.raises(UserError, match=message):
        run(monkeypatch)
    assert readme.read_text() == text


def test_the_outcome_is_that_of_two_one_sided_t_tests(readme):
    runs = [("tutorial", 0.1), ("tutorial", 0.3), ("bert-cola", 0.3), ("bert-cola", 0.5)]
    lines = [f"{method},{seed},{mcc},{mcc}" for seed, (method, mcc) in enumerate(runs)]
    files.write_text(generate.outcome.RESULTS, "\n".join(["method,seed,training_loss_1,test_mcc", *lines]))
    _, loss, mcc = generate.tabulate_outcome()
    assert (loss[0], mcc[0]) == ("training loss, epoch 1", "test MCC")
    # Welch with two degrees of freedom: t = 2.920, and p of (0.212 - 0.2) / 0.141 = 0.0858.
    assert mcc[1:] == ("0.200 (0.141)", "0.400 (0.141)", "+0.200 ± 0.413", "0.212", "not shown, p = 0.47")
