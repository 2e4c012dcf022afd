import math
from pathlib import Path

import pytest
import yaml

from cola.core.errors import UserError
from cola.core.params import flatten, load

FILE = Path(__file__).parents[2] / "params.yaml"
SETTINGS = flatten(load(FILE))  # {'train.epochs': 4, ...}
NULL_NUMBERS = {
    "tokenize.training_sentences",
    "train.max_steps",
    "train.early_stopping",
    "train.micro_batch_tokens",
}
NULLABLE = NULL_NUMBERS | {"fetch.encoder_revision", "train.class_weights"}
SWITCHES = {key for key, value in SETTINGS.items() if isinstance(value, bool)}
NUMBERS = {key for key, value in SETTINGS.items() if isinstance(value, int | float)} - SWITCHES | NULL_NUMBERS
TEXTS = SETTINGS.keys() - SWITCHES - NUMBERS


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("params") / "params.yaml"


def refusal(path):
    """The message, one line, with which load refuses a file; without the file's name."""
    with pytest.raises(UserError) as error:
        load(path)
    message = str(error.value)
    assert message.isprintable(), f"more than one line: {message!r}"
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def changed(key, *value):
    """params.yaml as text, with a key set to a value, or removed where no value is given."""
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


def test_every_section_and_every_setting_must_be_there(path):
    sections = {key.split(".")[0] for key in SETTINGS}
    assert sections == {"seed", "device", "precision", "fetch", "tokenize", "train", "evaluate", "sample_predict"}
    assert len(SETTINGS) >= 15
    for key in sections | SETTINGS.keys():
        path.write_text(changed(key), encoding="utf-8")
        assert refusal(path) == f": {key} is missing"


def test_every_setting_refuses_what_is_not_its_kind(path):
    no_number = ["1", math.nan, math.inf, -math.inf, -1, True, False, [1], {"a": 1}]
    no_text = ["", "two words", "\n", 1, 0.5, True, ["cpu"], {"a": 1}]
    no_switch = ["true", "yes", 1, 0, 1.0, [True]]
    wrong = dict.fromkeys(NUMBERS, no_number) | dict.fromkeys(TEXTS, no_text) | dict.fromkeys(SWITCHES, no_switch)
    swept = [(key, value) for key, values in wrong.items() for value in values]
    swept += [(key, None) for key in SETTINGS.keys() - NULLABLE]
    for key, value in swept:
        path.write_text(changed(key, value), encoding="utf-8")
        assert refusal(path).startswith(f": {key} must be "), f"{key} = {value!r}"
    assert wrong.keys() == SETTINGS.keys()


@pytest.mark.parametrize(
    ("key", "lowest", "highest", "below", "above"),
    [
        ("seed", 0, 2**32 - 1, -1, 2**32),
        ("sample_predict.seed", 0, 2**32 - 1, -1, 2**32),
        ("tokenize.max_length", 3, 512, 2, 100_001),
        ("tokenize.validation_fraction", 0.001, 0.999, 0.0, 1.0),
        ("train.epochs", 1, 100, 0, 1_000_001),
        ("train.max_steps", 1, 100, 0, 1_000_001),
        ("train.learning_rate", 1e-9, 1, 0.0, 1e7),
        ("train.weight_decay", 0.0, 1, -0.01, 1e7),
    ],
)
def test_the_range_of_a_number(path, key, lowest, highest, below, above):
    for right in (lowest, highest):
        path.write_text(changed(key, right), encoding="utf-8")
        assert flatten(load(path))[key] == right
    for wrong in (below, above):
        path.write_text(changed(key, wrong), encoding="utf-8")
        assert refusal(path).endswith(f", not {wrong}")


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("train.learning_rate", "2e-5x", " must be a number, not '2e-5x'"),
        ("train.epochs", 1.5, " must be a whole number, not 1.5"),
        ("train.fast", "yes", " must be true or false, not 'yes'"),
        ("train", None, " must be a section with its settings, not None"),
        ("device", "gpu", " must be 'auto', 'cuda', 'mps' or 'cpu', not 'gpu'"),
        ("fetch.corpus", "my corpus", " must be the name of a corpus, or a folder: corpora/NAME, not 'my corpus'"),
        ("fetch.encoder_revision", "main", " must be a commit's hash: 40 digits, 0 to 9 and a to f, not 'main'"),
        ("train.epoch", 1, " is not a setting"),
        ("two\nlines", 1, " is not a setting"),
    ],
)
def test_a_wrong_value_is_refused_in_words(path, key, value, fault):
    path.write_text(changed(key, value), encoding="utf-8")
    assert refusal(path) == f": {' '.join(key.split())}{fault}"


@pytest.mark.parametrize("written", ["2e-5", "2E-05", "2.e-5", "2.0e-5"])
def test_an_exponent_is_read_as_dvc_writes_it(path, written):
    text = FILE.read_text(encoding="utf-8")
    path.write_text(text.replace("learning_rate: 2.0e-5", f"learning_rate: {written}"), encoding="utf-8")
    assert load(path).train.learning_rate == 2e-5


def test_all_wrong_keys_are_named_at_once(path):
    path.write_text(changed("seed", -1).replace("epochs: 4", "epoch: 4"), encoding="utf-8")
    assert refusal(path) == (
        ": seed must be greater than or equal to 0, not -1; train.epochs is missing; train.epoch is not a setting"
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", ": the file must be a section with its settings, not None"),
        (b"- seed\n", ": the file must be a section with its settings, not ['seed']"),
        (b"seed: 1\nseed: 1\n", ": not valid YAML: seed is given twice, line 1 on"),
        (b"seed: [1\n", ": not valid YAML: while parsing a flow sequence"),
        (b"seed: \xff\n", ": not valid YAML: 'utf-8' codec can't decode byte 0xff in position 6"),
        (b"seed: \x00\n", ": not valid YAML: unacceptable character"),
        (b"seed: 2020-13-45\n", ": not valid YAML: month must be in 1..12"),
        (b"seed: " + b"9" * 5000, ": not valid YAML: Exceeds the limit"),
        (b"seed: " + b"[" * 1000, ": not valid YAML: "),
        (b"seed: !!python/object/apply:os.getcwd []\n", ": not valid YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_settings_is_refused(path, content, fault):
    path.write_bytes(content)
    assert refusal(path).startswith(fault)


def test_a_missing_file_is_refused(tmp_path):
    fault = " cannot be read (No such file or directory): run this from the project's root"
    assert refusal(tmp_path / "params.yaml") == fault


@pytest.mark.parametrize("name", ["bert-base-uncased", "results/", "runs/2024/best"])
def test_an_encoder_that_is_neither_an_id_nor_a_folder_is_told_both_forms(path, name):
    path.write_text(changed("fetch.encoder", name), encoding="utf-8")
    forms = "must be an id of the Hub, such as google-bert/bert-base-uncased, or a folder, such as ./"
    assert refusal(path) == f": fetch.encoder {forms}{name}, not {name!r}"
    path.write_text(changed("fetch.encoder", f"./{name}"), encoding="utf-8")
    assert load(path).fetch.encoder == f"./{name}"
