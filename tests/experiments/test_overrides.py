"""Settings as people type them, through the grammars of the command line, of YAML, of hydra and of git."""

import pytest
import yaml
from dulwich.refs import check_ref_format
from dvc.utils.hydra import apply_overrides
from hypothesis import example, given
from hypothesis import strategies as st
from project import ROOT

from cola.core import params, paths
from cola.core.errors import UserError
from cola.experiments import overrides

TEXTS = st.text("ab1./-_~^:?*[\\ @{\né=,'\"$}()#", max_size=8)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("train.epochs=3  seed=1\n", {"train.epochs": 3, "seed": 1}),
        ("fetch.corpus=corpora/my data (1) seed=1", {"fetch.corpus": "corpora/my data (1)", "seed": 1}),
        ("fetch.corpus=~/réclamations, 50% #1", {"fetch.corpus": "~/réclamations, 50% #1"}),
        ("fetch.corpus='~/a b' fetch.encoder=\"2\"", {"fetch.corpus": "~/a b", "fetch.encoder": "2"}),
        ("fetch.corpus=a: b", {"fetch.corpus": "a: b"}),
        ("train.learning_rate=5e-5 train.fast=False", {"train.learning_rate": 5e-05, "train.fast": False}),
        ("train.max_steps=null fetch.corpus=[x]", {"train.max_steps": None, "fetch.corpus": "[x]"}),
    ],
)
def test_settings_are_as_typed(text, expected):
    assert overrides.parse_settings(text) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("minimal_pairs", "'minimal_pairs' is no setting, which is a key and a value: train.epochs=3"),
        ("seed=1 seed=2", "'seed' is given twice"),
        ("train.epoch=2", "params.yaml has no setting train.epoch"),
        ("train.epochs=0", "params.yaml: train.epochs must be greater than or equal to 1, not 0"),
        ("seed=1,2", "params.yaml: seed must be a whole number, not '1,2'"),
    ],
)
def test_a_wrong_setting_is_one_line(text, fault):
    with pytest.raises(UserError) as error:
        overrides.apply_settings(overrides.parse_settings(text))
    assert str(error.value) == fault


@given(TEXTS)
def test_hydra_reads_every_text_as_it_is(tmp_path_factory, text):
    file = tmp_path_factory.mktemp("hydra") / "params.yaml"
    file.write_text("seed: 42\nfetch:\n  corpus: cola\n  encoder: mine\n")
    apply_overrides(file, overrides.quote_settings({"fetch.corpus": text, "seed": 7, "fetch.encoder": None}))
    assert yaml.safe_load(file.read_text()) == {"seed": 7, "fetch": {"corpus": text, "encoder": None}}


def test_settings_change_params_yaml_and_nothing_else():
    changes = {"seed": 7, "train.epochs": 3, "train.max_steps": None}
    before = params.flatten(params.load(paths.PARAMS))
    assert params.flatten(overrides.apply_settings(changes)) == before | changes


def test_a_sweep_has_every_combination_under_a_name_that_tells_it():
    combinations = overrides.combine_settings("train.epochs=2,3 train.max_steps= fetch.corpus='a,b',~/c")
    assert list(combinations.values()) == [
        {"train.epochs": epochs, "train.max_steps": None, "fetch.corpus": corpus}
        for epochs, corpus in ((2, "a,b"), (2, "~/c"), (3, "a,b"), (3, "~/c"))
    ]
    assert [name[:-9] for name in combinations] == [
        f"epochs-{epochs}-max_steps-null-fetch.corpus-{corpus}"
        for epochs, corpus in ((2, "a-b"), (2, "c"), (3, "a-b"), (3, "c"))
    ]


KEYS = st.sampled_from(["seed", "fetch.corpus", "train.epochs"])
SETTINGS = st.dictionaries(KEYS, TEXTS | st.integers(0, 9), min_size=1, max_size=2)


@given(SETTINGS, SETTINGS)
@example({"fetch.corpus": "a/b"}, {"fetch.corpus": "a_b"})
@example({"fetch.corpus": f"./{'a' * 60}/b"}, {"fetch.corpus": f"./{'a' * 60}/c"})
@example({"fetch.corpus": "2"}, {"fetch.corpus": 2})
def test_git_and_dvc_accept_every_name_and_different_settings_have_different_names(first, second):
    name = overrides.name_experiment(first)
    assert check_ref_format(f"refs/exps/ab/cdef/{name}".encode()), name  # the check that DVC makes
    assert "/" not in name
    assert len(name) <= 70
    assert (overrides.name_experiment(second) == name) == (list(first.items()) == list(second.items()))
    assert overrides.name_experiment(first, "data-curve") != name
