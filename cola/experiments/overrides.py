"""An experiment's settings, which override those of params.yaml, by key: {"train.epochs": 3}."""

import csv
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from cola.core import params, paths
from cola.core.errors import UserError

Settings = Mapping[str, Any]


def split_settings(text: str) -> dict[str, str]:
    """The text of each setting's value, by key: "train.epochs=3 seed=1" -> {"train.epochs": "3", "seed": "1"}.

    A value may have spaces. Raises UserError where a setting has no key, or two have the same.
    """
    values: dict[str, str] = {}
    for setting in filter(None, re.split(r"\s+(?=[\w.]+=)", text.strip())):
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"{key!r} is no setting, which is a key and a value: train.epochs=3")
        if key in values:
            raise UserError(f"{key!r} is given twice")
        values[key] = value
    return values


def parse_settings(text: str) -> dict[str, Any]:
    """The settings of a text, with one value each: "seed=1" -> {"seed": 1}. Raises as split_settings."""
    return {key: params.parse_value(value) for key, value in split_settings(text).items()}


def combine_settings(text: str) -> dict[str, dict[str, Any]]:
    """Every combination of settings that have several values, by a name for it. Raises as split_settings.

    "train.epochs=2,3 seed=7" -> {"epochs-2-seed-7-d573e80d": {"train.epochs": 2, "seed": 7}, "epochs-3-...": ...}
    Quotation marks enclose a value that has a comma: "fetch.corpus='corpora/a,b',corpora/c".
    """
    values = {
        key: [params.parse_value(value) for value in next(csv.reader([several], quotechar="'")) or [""]]
        for key, several in split_settings(text).items()
    }
    combinations = [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]
    return {name_experiment(settings): settings for settings in combinations}


def apply_settings(settings: Settings) -> params.Params:
    """params.yaml with these settings. Raises UserError where a key is unknown or a value is wrong."""
    recipe = params.load(paths.PARAMS)
    if unknown := settings.keys() - params.flatten(recipe).keys():
        raise UserError(f"{paths.PARAMS} has no setting {', '.join(sorted(unknown))}")
    values = recipe.model_dump()
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        (values[section] if section else values)[name] = value
    return params.parse(yaml.safe_dump(values).encode(), paths.PARAMS)


def quote_settings(settings: Settings) -> list[str]:
    """The settings as `dvc exp run --set-param` takes them: in hydra's grammar, with every text quoted."""
    return [f"{key}={_quote(value)}" for key, value in settings.items()]


def _quote(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    # hydra takes a backslash as it is, except before a quotation mark and before "${".
    text = re.sub(r"(\\*)(?=\$\{)", r"\1\1\\", value)
    return "'" + re.sub(r"(\\+)(?='|\Z)", r"\1\1", text).replace("'", r"\'") + "'"


def name_experiment(settings: Settings, prefix: str = "") -> str:
    """A name that git and DVC accept and that no other settings have: {"seed": 7} -> "seed-7-3a1de7ff".

    It shows the settings as far as a name can. Its digest differs where the rest of two names is the same.
    """
    texts = [f"{key}-{value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]
    words = "-".join([prefix, *texts] if prefix else texts).replace("train.", "")
    readable = re.sub(r"[^\w.]+|\.\.+", "-", words, flags=re.ASCII)
    digest = hashlib.sha256(json.dumps([prefix, *settings.items()]).encode()).hexdigest()[:8]
    return f"{readable[:60]}-{digest}"
