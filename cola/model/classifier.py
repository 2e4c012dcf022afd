"""A pretrained encoder with a classification head: load and save it, and compute the logits of sentences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from cola.core.errors import UserError, join_lines
from cola.model import batching, families
from cola.model.device import autocast

# How a model answers, not what: another form would break transformers' pipeline, or need sentences of some lengths.
PLAIN_ANSWERS = {
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "chunk_size_feed_forward": 0,
}


def load(
    folder: Path, device: torch.device, names: Sequence[str] | None = None, pretrained: bool = True
) -> PreTrainedModel:
    """Return the model in `folder`, in float32, on `device`, in evaluation mode.

    Without `names`, the folder holds a saved classifier. With the labels' `names`, it holds an encoder, and the head
    gets random weights even if the file has a head: for BERT, dropout on the pooled [CLS] and one linear layer, as in
    the tutorial. If not `pretrained`, all weights are random, as transformers initializes a new model.

    Raises UserError if the folder has no such model, or if a weight is missing, misshapen or not finite.
    """
    logging.set_verbosity_error()  # hides the table of missing and unused weights, which are checked below
    logging.disable_progress_bar()
    settings: dict[str, Any] = {}
    if names:
        numbers = {name: number for number, name in enumerate(names)}
        # An earlier head's problem_type would change the loss.
        settings = PLAIN_ANSWERS | {"id2label": dict(enumerate(names)), "label2id": numbers, "problem_type": None}
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            **settings,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the report names them
        )
    except Exception as error:  # quantizers and readers of files have classes of their own
        raise UserError(f"{folder} has no model that can be loaded: {join_lines(error)}") from None
    absent = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    if names:
        absent = _initialize_head(model, absent)
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


def _initialize_head(model: PreTrainedModel, absent: set[str]) -> set[str]:
    """Give all weights outside the encoder random values, and print a line where users may not expect that.

    transformers has initialized the weights that are `absent` from the file or misshapen. Returns the names of those
    that belong to the encoder. A pooler does not: masked language models have none.
    """
    encoder, weights = f"{model.base_model_prefix}.", dict(model.named_parameters())
    pooler = {name for name in weights if name.startswith(f"{encoder}pooler.")}
    if misfits := {name for name in absent - pooler if name.startswith(encoder)}:
        return misfits
    head = [name for name in weights if not name.startswith(encoder)]
    if not absent.issuperset(head):
        print(f"the encoder's file has an earlier head, which is left out: {', '.join(head)}")
        initial = dict(AutoModelForSequenceClassification.from_config(model.config).named_parameters())
        for name in head:
            weights[name].data.copy_(initial[name])
    if pooler and pooler <= absent:
        print(f"the encoder's file has no pooler: {min(pooler)} starts from random values, as the head does")
        return set()
    return absent & pooler


def read_label_names(model: PreTrainedModel) -> list[str]:
    """Return the names of the labels, by number."""
    names: Any = model.config.id2label
    return [names[number] for number in range(len(names))]


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write config.json and model.safetensors, in float32, for `transformers.pipeline`."""
    model.save_pretrained(folder, save_original_format=False)  # with today's weight names, even for an old encoder


def collate(
    model: PreTrainedModel, input_ids: Sequence[batching.TokenIds], packed: bool, few_shapes: bool = False
) -> batching.Padded | batching.Packed:
    """Return a batch of sentences for compute_logits. `packed` needs families.supports(model)."""
    return batching.pack(input_ids, few_shapes) if packed else batching.pad(input_ids, model.config.pad_token_id)


def compute_logits(model: PreTrainedModel, batch: batching.Padded | batching.Packed, precision: torch.dtype) -> Tensor:
    """Return logits (sentences, classes) float32 on the model's device. The encoder multiplies in `precision`.

    The head computes in float32, because it has few rows and bfloat16 would leave three digits of a logit. If
    families does not support the model, its head computes in `precision`, too.
    """
    batch = type(batch)(*(tensor.to(model.device) for tensor in batch))
    with autocast(model.device, precision):
        if not families.supports(model):
            return model(**batch._asdict()).logits.float()
        states = families.encode(model, batch)
    return families.classify(model, states.float())
