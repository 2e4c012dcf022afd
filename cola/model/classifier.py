"""A pretrained encoder with a classification head: build, load, save, and the logits of sentences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from cola.core.errors import UserError, one_line
from cola.model import batching, families
from cola.model.device import autocast


def load(
    folder: Path, device: torch.device, names: Sequence[str] | None = None, pretrained: bool = True
) -> PreTrainedModel:
    """The model in `folder`, in float32, on `device`, in evaluation mode.

    With the `names` of the labels the folder holds an encoder, whose head is drawn from PyTorch's random state: for
    BERT, dropout on the pooled [CLS] and one linear layer, as in the tutorial. Earlier heads in the file are left out.
    Without, it holds a classifier that was saved. Raises UserError where the folder holds no such model, where a
    weight is not a finite number, or where one is missing or has another shape: transformers would only warn, and draw
    it at random. Not `pretrained`, every weight is drawn, as transformers draws those of a new model.
    """
    logging.set_verbosity_error()  # its table of missing and unused weights; what matters in it is checked below
    logging.disable_progress_bar()
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            **_head(names),
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused below
        )
    except Exception as error:  # of any class: quantizers and readers of files have their own
        raise UserError(f"{folder} has no model that can be loaded: {one_line(error)}") from None
    absent = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    if names:
        absent = _draw_head(model, absent)
    if absent:
        raise UserError(
            f"{folder}/model.safetensors does not fit its config.json: {min(absent)} is missing or misshapen"
        )
    for name, weights in model.named_parameters():
        if not weights.isfinite().all():
            raise UserError(f"{folder}/model.safetensors: {name} is not finite everywhere: take another encoder")
    if not pretrained:
        model = AutoModelForSequenceClassification.from_config(model.config)
    return model.to(device).eval()


def _head(names: Sequence[str] | None) -> dict[str, Any]:
    """The settings of config.json that name the classes, and none of an earlier head's that would change the loss."""
    if names is None:
        return {}
    numbers = {name: number for number, name in enumerate(names)}
    return {"num_labels": len(names), "id2label": dict(enumerate(names)), "label2id": numbers, "problem_type": None}


def _draw_head(model: PreTrainedModel, absent: set[str]) -> set[str]:
    """Have all weights outside the encoder drawn, and print what is drawn that users may not expect.

    transformers has drawn those that are `absent` from the file, or misshapen. Returns the encoder's, but for a
    pooler: masked language modelling has none, so that it is drawn as the head is.
    """
    encoder, weights = f"{model.base_model_prefix}.", dict(model.named_parameters())
    head = [name for name in weights if not name.startswith(encoder)]
    if not absent.issuperset(head):
        print(f"the encoder's file has an earlier head, which is left out: {', '.join(head)}")
        drawn = dict(AutoModelForSequenceClassification.from_config(model.config).named_parameters())
        for name in head:
            weights[name].data.copy_(drawn[name])
    pooler = {name for name in weights if name.startswith(f"{encoder}pooler.")}
    if pooler and pooler <= absent:
        print(f"the encoder's file has no pooler, which is drawn from the seed as the head is: {min(pooler)}")
        absent = absent - pooler
    return {name for name in absent if name.startswith(encoder)}


def label_names(model: PreTrainedModel) -> list[str]:
    """The names of the labels, by number."""
    names: Any = model.config.id2label
    return [names[number] for number in range(len(names))]


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write config.json and model.safetensors, float32, as `transformers.pipeline` loads them."""
    model.save_pretrained(folder, save_original_format=False)  # today's names, also of an encoder with old ones


def collate(
    model: PreTrainedModel, input_ids: Sequence[batching.TokenIds], packed: bool
) -> batching.Padded | batching.Packed:
    """A batch of sentences as `logits` takes it. Packed: where families.supports(model)."""
    return batching.pack(input_ids) if packed else batching.pad(input_ids, model.config.pad_token_id)


def logits(model: PreTrainedModel, batch: batching.Padded | batching.Packed, precision: torch.dtype) -> Tensor:
    """(sentences, classes) float32, on the model's device. The encoder multiplies matrices in `precision`.

    The head computes in float32, for it has few rows: bfloat16 would leave three digits of a logit. (The head of an
    encoder that families does not support is computed as the encoder is.)
    """
    batch = type(batch)(*(tensor.to(model.device) for tensor in batch))
    with autocast(model.device, precision):
        if not families.supports(model):
            return model(**batch._asdict()).logits.float()
        states, mask = families.encode(model, batch)
    return families.classify(model, states.float(), mask)
