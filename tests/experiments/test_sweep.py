"""No two combinations of settings have the same name, and git and DVC take every name."""

import sys

import pytest
from dulwich.refs import check_ref_format
from hypothesis import given
from hypothesis import strategies as st
from project import ROOT

from cola.core import params
from cola.core.errors import UserError
from cola.experiments import sweep

KNOWN = params.flatten(params.load(ROOT / "params.yaml"))


def test_every_combination_has_a_name():
    assert sweep.combinations(["train.epochs=2,3", "train.learning_rate=5.0e-5", "seed=1,7"], KNOWN) == {
        "epochs-2-learning_rate-5.0e-5-seed-1": ["train.epochs=2", "train.learning_rate=5.0e-5", "seed=1"],
        "epochs-2-learning_rate-5.0e-5-seed-7": ["train.epochs=2", "train.learning_rate=5.0e-5", "seed=7"],
        "epochs-3-learning_rate-5.0e-5-seed-1": ["train.epochs=3", "train.learning_rate=5.0e-5", "seed=1"],
        "epochs-3-learning_rate-5.0e-5-seed-7": ["train.epochs=3", "train.learning_rate=5.0e-5", "seed=7"],
    }


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("train.batch_size=16", "train.batch_size-16"),
        ("evaluate.batch_size=16", "evaluate.batch_size-16"),
        ("seed=1", "seed-1"),
        ("sample_predict.seed=1", "sample_predict.seed-1"),
        ("fetch.corpus=corpora/example", "corpus-corpora_example-dbd46d78"),
        ("train.max_steps=null", "max_steps-null"),
    ],
)
def test_a_key_is_as_short_as_it_can_be_told_from_the_others(setting, name):
    (made,) = sweep.combinations([setting], KNOWN)
    assert made == name


KEYS = st.lists(st.sampled_from(sorted(KNOWN)), min_size=1, max_size=3, unique=True)
VALUES = st.one_of(
    st.text("ab1./-_~^:?*[\\ @{\n", min_size=1, max_size=8),
    st.sampled_from(["16", "5.0e-5", "../my/encoder", "a.lock", "a..b", "1-epochs-2", "2-epochs-3", "é"]),
)


def names(settings):
    return list(sweep.combinations(settings, KNOWN))


@given(st.data(), KEYS, KEYS)
def test_every_name_is_one_that_git_and_dvc_take_and_no_other_settings_have_it(data, one, other):
    first = [f"{key}={data.draw(VALUES)}" for key in one]
    second = [f"{key}={data.draw(VALUES)}" for key in other]
    (name,) = names(first)
    assert check_ref_format(f"refs/exps/ab/cdef/{name}".encode()), name  # what DVC calls
    assert "/" not in name
    assert (names(second) == [name]) == (first == second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["seed=1-epochs-2", "train.epochs=3"], ["seed=1", "train.epochs=2-epochs-3"]),
        (["fetch.corpus=a/b"], ["fetch.corpus=a_b"]),
    ],
)
def test_settings_that_look_alike_have_different_names(one, other):
    assert names(one) != names(other)


@pytest.mark.parametrize(
    "settings", [[], ["seed"], ["seed="], ["=1"], ["seed=1,,2"], ["seed=1,2,1"], ["seed=1", "seed=2"]]
)
def test_what_is_no_setting_or_is_given_twice_is_refused(settings):
    with pytest.raises(UserError, match="setting"):
        sweep.combinations(settings, KNOWN)


def test_a_setting_that_params_yaml_lacks_is_refused_before_any_work(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["sweep", "train.epoch=2"])
    with pytest.raises(UserError, match=r"^train\.epoch is no setting of params\.yaml: seed, device, .*train\.epochs"):
        sweep.main()
