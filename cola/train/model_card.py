"""The model card: the README.md beside the weights, with the figures of the run that made them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cola.core.params import Train
from cola.data import tutorial

_CARD = """---
license: {license_id}
base_model: {encoder}
pipeline_tag: text-classification
library_name: transformers
---

# {encoder}, fine-tuned on {corpus}

Tells apart: {labels}. Made by a DVC pipeline that fine-tunes as Chris McCormick's "BERT Fine-Tuning Tutorial with
PyTorch" does; the same commit, settings and machine give the same bytes.

```python
from transformers import pipeline

pipeline("text-classification", "models/finetuned")("{example}")
```

## Data

- corpus: {corpus} ({corpus_citation})
- license of the corpus: {corpus_license}
- {training} sentences trained on, {validation} held out for validation
- encoder: {encoder}, revision {revision} ({encoder_citation}); license: {encoder_license}

## Recipe

{recipe}

## Figures

On the validation sentences, after each epoch:

{history}

The test's figures are not part of the model: `metrics/test.json` and `metrics/analysis.json` have them.

## Limits

- It judges one text at a time, and was trained on texts cut to `tokenize.max_length` tokens (`params.yaml`).
- It knows what {corpus} has: other kinds of text, other languages and other people's judgements were not tried.
- A probability is the model's, and not that of being right: see `metrics/calibration.csv`.
{comparable}
"""


def text(
    source: Mapping[str, Any], recipe: Train, history: pd.DataFrame, example: str, training: int, validation: int
) -> str:
    """The card of a model: its source.json, its recipe, a row for each epoch, a sentence, and how many there were."""
    corpus, encoder = source["corpus"], source["encoder"]
    return _CARD.format(
        license_id=encoder["license"].lower() if encoder["license"] == "Apache-2.0" else "other",
        corpus=corpus["name"],
        corpus_citation=corpus["citation"],
        corpus_license=corpus["license"],
        encoder=encoder["name"],
        encoder_citation=encoder["citation"],
        encoder_license=encoder["license"],
        revision=encoder["revision"] or "none",
        labels=", ".join(corpus["labels"]),
        example=example.replace('"', "'"),
        training=f"{training:,}",
        validation=f"{validation:,}",
        recipe=_table(["setting", "value"], recipe),
        history=_table([name.replace("_", " ") for name in history], history.round(3).itertuples(index=False)),
        comparable="- Its test MCC may be held against the tutorial's: corpus and encoder are the same."
        if tutorial.comparable(source)
        else "- Its test MCC may not be held against the tutorial's: corpus or encoder is another.",
    )


def _table(columns: Sequence[str], rows: Any) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
