import math
from pathlib import Path

import pytest
import yaml

from cola.core.errors import UserError
from cola.core.params import flatten, load

FILE = Path(__file__).parents[2] / "params.yaml"
SETTINGS = flatten(load(FILE))  # {'train.epochs': 4, ...}
NULLABLE = {
    "tokenize.training_sentences",
    "train.max_steps",
    "train.early_stopping",
    "train.micro_batch_tokens",
    "fetch.encoder_revision",
    "train.class_weights",
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "params.yaml"


def refuse(path):
    """Return the message with which load refuses a file, without the file's name. It must be one line."""
    with pytest.raises(UserError) as error:
        load(path)
    message = str(error.value)
    assert message.isprintable(), f"more than one line: {message!r}"
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def change(key, *value):
    """Return params.yaml as text, with a key set to a value, or removed where no value is given."""
    settings = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    *sections, name = key.split(".", 1)
    section = settings[sections[0]] if sections else settings
    section.pop(name, None)
    if value:
        (section[name],) = value
    return yaml.safe_dump(settings, allow_unicode=True)


def test_the_projects_settings_are_the_tutorials_recipe():
    recipe = {
        "fetch.corpus": "cola",
        "fetch.encoder": "google-bert/bert-base-uncased",
        "fetch.encoder_revision": None,
        "tokenize.max_length": 64,
        "tokenize.validation_fraction": 0.1,
        "train.epochs": 4,
        "train.batch_size": 32,
        "train.learning_rate": 0.00002,
        "train.adam_epsilon": 0.00000001,
        "train.weight_decay": 0.0,
        "train.max_grad_norm": 1.0,
        "train.max_steps": None,
        "evaluate.batch_size": 32,
        "seed": 42,
    }
    assert SETTINGS | recipe == SETTINGS


def test_every_section_and_setting_is_required_and_has_one_kind(path):
    sections = {key.split(".")[0] for key in SETTINGS}
    assert len(SETTINGS) >= 15
    for key in sections | SETTINGS.keys():
        path.write_text(change(key), encoding="utf-8")
        assert refuse(path) == f": {key} is missing"
    for key in SETTINGS:
        for wrong in ([1], {"a": 1}, "two words", *([] if key in NULLABLE else [None])):
            path.write_text(change(key, wrong), encoding="utf-8")
            assert refuse(path).startswith(f": {key} must be "), f"{key} = {wrong!r}"


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("seed", [0, 2**32 - 1], [-1, 2**32, True, 1.5]),
        ("tokenize.max_length", [3, 512], [2, 100_001]),
        ("tokenize.validation_fraction", [0.001, 0.999], [0.0, 1.0]),
        ("train.max_steps", [1, 1_000_000], [0, 1_000_001]),
        ("train.learning_rate", [1e-9, 1], [0.0, 1e7, math.nan, math.inf]),
        ("train.adam_epsilon", [1e-30, 1e-8], [0.0, 1e-50]),
        ("train.weight_decay", [0.0, 1], [-0.01, 1e7]),
    ],
)
def test_a_number_has_a_range(path, key, right, wrong):
    for value in right:
        path.write_text(change(key, value), encoding="utf-8")
        assert flatten(load(path))[key] == value
    for value in wrong:
        path.write_text(change(key, value), encoding="utf-8")
        assert refuse(path).endswith(f", not {value}")


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("train.learning_rate", "2e-5x", " must be a number, not '2e-5x'"),
        ("train.epochs", 1.5, " must be a whole number, not 1.5"),
        ("train.fast", "yes", " must be true or false, not 'yes'"),
        ("train", None, " must be a section with its settings, not None"),
        ("device", "gpu", " must be 'auto', 'cuda', 'mps' or 'cpu', not 'gpu'"),
        ("fetch.corpus", "my corpus", " must be the name of a corpus, or a folder: corpora/NAME, not 'my corpus'"),
        *(
            (
                "fetch.encoder",
                name,
                " must be an id of the Hub, such as google-bert/bert-base-uncased, or a folder, such as ./my/encoder, "
                f"not '{name}'",
            )
            for name in ("bert-base-uncased", "results/", "runs/2024/best")
        ),
        ("fetch.encoder_revision", "main", " must be a commit's hash: 40 digits, 0 to 9 and a to f, not 'main'"),
        ("train.epoch", 1, " is not a setting"),
        ("two\nlines", 1, " is not a setting"),
    ],
)
def test_a_wrong_value_is_refused_in_words(path, key, value, fault):
    path.write_text(change(key, value), encoding="utf-8")
    assert refuse(path) == f": {' '.join(key.split())}{fault}"


@pytest.mark.parametrize("folder", ["./results/", "../best", "~/models/best", "/models/best"])
def test_an_encoder_may_be_a_folder(path, folder):
    path.write_text(change("fetch.encoder", folder), encoding="utf-8")
    assert load(path).fetch.encoder == folder


@pytest.mark.parametrize("written", ["2e-5", "2E-05", "2.e-5", "2.0e-5"])
def test_an_exponent_may_be_written_as_dvc_does(path, written):
    text = FILE.read_text(encoding="utf-8")
    path.write_text(text.replace("learning_rate: 2.0e-5", f"learning_rate: {written}"), encoding="utf-8")
    assert load(path).train.learning_rate == 2e-5


def test_a_section_may_take_over_settings_by_a_merge_key(path):
    text = FILE.read_text(encoding="utf-8")
    path.write_text(text.replace("  epochs: 4\n", "  <<: {epochs: 3}\n"), encoding="utf-8")
    assert load(path).train.epochs == 3


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            change("seed", -1).replace("epochs: 4", "epoch: 4").encode(),
            ": seed must be greater than or equal to 0, not -1; train.epochs is missing; train.epoch is not a setting",
        ),
        (b"", ": the file must be a section with its settings, not None"),
        (b"- seed\n", ": the file must be a section with its settings, not ['seed']"),
        (b"seed: 1\nseed: 1\n", ": not valid YAML: seed is given twice, line 1 on"),
        (b"# a\nseed: 042\n", ": not valid YAML: 042, line 2, is another value to DVC: write it without leading zeros"),
        (b"seed: 1:30\n", ": not valid YAML: 1:30, line 1, is another value to DVC"),
        (b"seed: 1_000\n", ": not valid YAML: 1_000, line 1, is another value to DVC"),
        (b"seed: 1\n<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n", ": a merge conflict: keep one side of it"),
        (b"seed: [1\n", ": not valid YAML: while parsing a flow sequence"),
        (b"seed: \xff\n", ": not valid YAML: 'utf-8' codec can't decode byte 0xff in position 6"),
        (b"seed: 2020-13-45\n", ": not valid YAML: month must be in 1..12"),
        (b"seed: " + b"9" * 5000, ": not valid YAML: Exceeds the limit"),
        (b"seed: " + b"[" * 1000, ": not valid YAML: "),
        (b"seed: !!python/object/apply:os.getcwd []\n", ": not valid YAML: could not determine a constructor"),
        (b"seed: !!int ''\n", ": not valid YAML: string index out of range"),
        (b"seed: !!bool maybe\n", ": not valid YAML: 'maybe'"),
        (b"seed: !!timestamp x\n", ": not valid YAML: "),
    ],
    ids=range(17),
)
def test_a_file_that_is_no_settings_is_refused(path, content, fault):
    path.write_bytes(content)
    assert refuse(path).startswith(fault)


def test_a_missing_file_is_refused(path):
    assert refuse(path) == f" is missing: run this from the project's root, or restore it: git checkout {path}"
