"""docs/generate.py writes outputs and tables between the comments of a document. `make lint` compares the real ones."""

import sys

import pytest

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
        "result,encoder,machine,seconds,source\n"
        "the tutorial,bert-base-uncased,Tesla P100,210,reported\n"
        ",MiniLM,a GPU,3.94,measured\n",
    )
    files.write_text(tmp_path / "CONTRIBUTING.md", "")
    files.write_text(tmp_path / "README.md", DOCUMENT)
    return tmp_path / "README.md"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["generate", *arguments])
    generate.main()


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


def test_times_are_shown_in_minutes_and_seconds(readme):
    assert list(generate.tabulate_times())[1:] == [
        ("bert-base-uncased", "Tesla P100", "3:30", "reported"),
        ("MiniLM", "a GPU", "3.9 s", "measured"),
    ]


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


def test_speed_is_in_seconds_and_relative_to_this_pipeline(readme):
    methods = {
        "the tutorial's loop": {"seconds": 4.0, "ratio": 16.04},
        "bert-cola": {"seconds": 0.25, "ratio": 1.0},
        "roofline": {"seconds": 0.0625},
    }
    benchmark = {"machine": "Fast(R), 2 threads", "training": {"bert-base-uncased": methods}}
    files.write_json(generate.BENCHMARKS / "fast.json", benchmark)
    assert list(generate.tabulate_speed("training", "fast")) == [
        ("training, Fast, 2 threads", "the tutorial's loop", "bert-cola", "roofline"),
        ("bert-base-uncased", "4.00 (16.0)", "**0.25**", "0.062 (25%)"),
    ]
    scores = "method,seed,test_mcc\ntutorial,0,0.25\ntutorial,1,0.5\nbert-cola,0,0.125\nbert-cola,1,0.25\n"
    files.write_text(generate.outcome.RESULTS, scores)
    assert list(generate.tabulate_tutorial()) == [
        ("", "the tutorial's loop", "this pipeline"),
        ("mean test MCC, 2 seeds of MiniLM on CoLA", "0.375", "0.188"),
        ("a step (BERT-base), Fast, 2 threads", "4.00 s (16.0 times)", "0.25 s"),
    ]


def test_deviations_of_a_step_are_shown_by_encoder(readme):
    files.write_text(
        generate.step.RESULTS,
        "machine,encoder,precision,method,loss,gradient\n"
        "a CPU,bert,float32,bert-cola,0.0,7.1e-07\n"
        "a CPU,bert,bfloat16,autocast,1.9e-04,1.2e-02\n"
        "a CPU,albert,float32,bert-cola,8.7e-08,0.5\n"
        "a CPU,albert,bfloat16,autocast,0.25,0.125\n",
    )
    assert list(generate.tabulate_steps()) == [
        ("loss, gradient; a CPU", "bert-cola, float32", "autocast, bfloat16"),
        ("bert", "0.0e+00, 7.1e-07", "1.9e-04, 1.2e-02"),
        ("albert", "8.7e-08, 5.0e-01", "2.5e-01, 1.2e-01"),
    ]


def test_memory_is_shown_by_encoder_and_by_micro_batch(readme, monkeypatch):
    monkeypatch.setattr(generate.sizes, "PICTURES", {"encoder": {"base": generate.sizes.Sizes()}})
    cases = [generate.sizes.Sizes(length=2, micro_batch_tokens=tokens) for tokens in (0, 2048, 512)]
    monkeypatch.setattr(generate.sizes, "MEMORY", cases)
    files.write_text(
        generate.sizes.RESULTS,
        "encoder,sentences,length,micro_batch_tokens,seconds,peak_gib,machine\n"
        "base,32,1.0,0,1,2.0,a CPU\n"
        "base,32,2.0,0,1,3.25,a CPU\n"
        "base,32,2.0,2048,1,3.0,a CPU\n"
        "base,32,2.0,512,1,2.5,a CPU\n",
    )
    assert list(generate.tabulate_memory()) == [("BERT; a CPU", "base"), ("memory", "2.0 GiB")]
    assert list(generate.tabulate_micro_batches()) == [
        ("mean sentence", "whole batch", "2048 tokens", "512 tokens"),
        ("23 tokens", "3.2 GiB", "3.0 GiB", "2.5 GiB"),
    ]


def test_the_outcome_is_that_of_two_one_sided_t_tests(readme):
    runs = [("tutorial", 0.1), ("tutorial", 0.3), ("bert-cola", 0.3), ("bert-cola", 0.5)]
    lines = [f"{method},{seed},{mcc},{mcc}" for seed, (method, mcc) in enumerate(runs)]
    files.write_text(generate.outcome.RESULTS, "\n".join(["method,seed,training_loss_1,test_mcc", *lines]))
    _, loss, mcc = generate.tabulate_outcome()
    assert (loss[0], mcc[0]) == ("training loss, epoch 1", "test MCC")
    # Welch with two degrees of freedom: t = 2.920, and p of (0.212 - 0.2) / 0.141 = 0.0858.
    assert mcc[1:] == ("0.200 (0.141)", "0.400 (0.141)", "+0.200 ± 0.413", "0.212", "not shown, p = 0.47")
