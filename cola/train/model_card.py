"""The model card: the README.md beside the weights, with the figures of their training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import transformers

from cola.core.params import Train
from cola.data import tutorial

TEMPLATE = Path(__file__).with_suffix(".md")


def render(source: Mapping[str, Any], recipe: Train, history: pd.DataFrame, training: int, validation: int) -> str:
    """A model's card, in Markdown.

    `source` is the model's source.json, `history` has a row per epoch, `training` and `validation` are numbers of
    sentences. The card quotes no sentence of the corpus, which may be private.
    """
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return template.render(
        corpus=source["corpus"],
        encoder=source["encoder"],
        recipe=recipe,
        headings=[name.replace("_", " ") for name in history],
        epochs=history.round(3).itertuples(index=False),
        training=training,
        validation=validation,
        version=transformers.__version__,
        comparable=tutorial.is_comparable(source),
    )
