"""The differences between families of encoders: how they encode packed sentences, and their classification heads.

A family is a model_type of config.json, with an entry in FAMILIES. Tests compare its logits, losses and gradients with
those of transformers' model on padded sentences.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from cola.core.errors import UserError
from cola.model import attention, batching


class Family(NamedTuple):
    """The functions of a family. Their first argument is the model with its head."""

    # (model, batch, positions (rows, length), additive mask (rows, 1, length, length)) -> states as `encode` returns
    encode_packed: Callable[[Any, batching.Packed, Tensor, Tensor], Tensor]
    apply_head: Callable[[Any, Tensor], Tensor]  # (model, states) -> logits (sentences, classes)


def _encode_first_tokens(model: Any, batch: batching.Packed, positions: Tensor, mask: Tensor) -> Tensor:
    """Encode with layers that have BERT's parts.

    The head reads first tokens only. So the last layer computes keys and values for every token, and the rest for the
    first tokens.
    """
    encoder = model.base_model
    hidden = encoder.embeddings(input_ids=batch.input_ids, position_ids=positions)  # (rows, length, width)
    if hasattr(encoder, "embeddings_project"):  # an ELECTRA whose embeddings are narrower than its layers
        hidden = encoder.embeddings_project(hidden)
    *layers, last = encoder.encoder.layer
    for layer in layers:
        hidden = layer(hidden, mask)
    row, column = batch.first_token_index // hidden.shape[1], batch.first_token_index % hidden.shape[1]
    first = _select(hidden.flatten(0, 1), batch.first_token_index).unsqueeze(1)
    block = last.attention.self
    query = block.query(first)
    key, value = (_select(states, row) for states in (block.key(hidden), block.value(hidden)))
    query, key, value = (
        states.unflatten(-1, (block.num_attention_heads, -1)).transpose(1, 2)  # (sentences, heads, tokens, size)
        for states in (query, key, value)
    )
    dropout = block.dropout.p if block.training else 0.0
    context, _ = attention.attend(block, query, key, value, mask[row, :, column].unsqueeze(2), block.scaling, dropout)
    attended = last.attention.output(context.flatten(2), first)
    return last.output(last.intermediate(attended), attended)


def _select(states: Tensor, rows: Tensor) -> Tensor:
    """Return states[rows], as an embedding: on a GPU the gradient of an index would take many small kernels."""
    return embedding(rows, states.flatten(1)).unflatten(-1, states.shape[1:])


def _encode_all_tokens(model: Any, batch: batching.Packed, positions: Tensor, mask: Any) -> Tensor:
    """Encode with transformers' forward()."""
    encoder = model.base_model
    hidden = encoder(input_ids=batch.input_ids, position_ids=positions, attention_mask=mask).last_hidden_state
    hidden = hidden.flatten(0, 1)
    if not _takes_mean(model):
        return _select(hidden, batch.first_token_index).unsqueeze(1)
    offsets = torch.arange(batch.input_ids.shape[1], device=hidden.device)  # within a sentence
    tokens = batch.first_token_index.unsqueeze(1) + offsets
    states = _select(hidden, tokens.clamp(max=len(hidden) - 1))  # (sentences, length, width)
    return _average(states, offsets < batch.lengths.unsqueeze(1))


def _encode_with_window(model: Any, batch: batching.Packed, positions: Tensor, mask: Tensor) -> Tensor:
    """Encode with transformers' forward(). Some layers attend to tokens at most config.sliding_window tokens away."""
    offsets = torch.arange(mask.shape[-1], device=mask.device)
    is_far = (offsets - offsets.unsqueeze(1)).abs() > model.config.sliding_window
    masks = {"full_attention": mask, "sliding_attention": mask.masked_fill(is_far, -torch.inf)}
    return _encode_all_tokens(model, batch, positions, masks)


def _takes_mean(model: Any) -> bool:
    """Return whether the head reads the mean of a sentence's tokens instead of the first token."""
    return getattr(model.config, "classifier_pooling", "cls") == "mean"


def _average(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of each sentence's states, (sentences, 1, width). `mask` is 0 for padding."""
    weights = mask.long().unsqueeze(-1)
    return (states.float() * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)


def _classify_bert(model: Any, states: Tensor) -> Tensor:
    return model.classifier(model.dropout(model.base_model.pooler(states)))


def _classify_albert(model: Any, states: Tensor) -> Tensor:
    encoder = model.base_model
    return model.classifier(model.dropout(encoder.pooler_activation(encoder.pooler(states[:, 0]))))


def _classify_distilbert(model: Any, states: Tensor) -> Tensor:
    return model.classifier(model.dropout(model.pre_classifier(states[:, 0]).relu()))


def _classify_modernbert(model: Any, states: Tensor) -> Tensor:
    return model.classifier(model.drop(model.head(states[:, 0])))


def _classify_roberta(model: Any, states: Tensor) -> Tensor:
    return model.classifier(states)  # takes the first token itself


FAMILIES: Final = {
    "albert": Family(_encode_all_tokens, _classify_albert),
    "bert": Family(_encode_first_tokens, _classify_bert),
    "camembert": Family(_encode_first_tokens, _classify_roberta),
    "distilbert": Family(_encode_all_tokens, _classify_distilbert),
    "electra": Family(_encode_first_tokens, _classify_roberta),
    "modernbert": Family(_encode_with_window, _classify_modernbert),
    "mpnet": Family(_encode_all_tokens, _classify_roberta),
    "roberta": Family(_encode_first_tokens, _classify_roberta),
    "xlm-roberta": Family(_encode_first_tokens, _classify_roberta),
}


def supports(model: PreTrainedModel) -> bool:
    """Return whether encode and classify take this model. They do not take decoders: their attention is causal."""
    return model.config.model_type in FAMILIES and not getattr(model.config, "is_decoder", False)


def encode(model: PreTrainedModel, batch: batching.Padded | batching.Packed) -> Tensor:
    """Return the states that the head reads, (sentences, 1, width): each sentence's first token, or its mean."""
    if isinstance(batch, batching.Padded):
        hidden: Tensor = model.base_model(**batch._asdict()).last_hidden_state
        return _average(hidden, batch.attention_mask) if _takes_mean(model) else hidden[:, :1]
    position_embeddings: Any = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(position_embeddings, "padding_idx", None)  # RoBERTa and MPNet start at padding + 1
    positions = batch.position_ids if padding is None else batch.position_ids + padding + 1
    mask = attention.make_additive_mask(batch.attention_mask)
    return FAMILIES[model.config.model_type].encode_packed(model, batch, positions, mask)


def classify(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Return logits (sentences, classes) from the result of `encode`, as the model's forward() computes them."""
    return FAMILIES[model.config.model_type].apply_head(model, states)


def freeze(model: PreTrainedModel, layers: int) -> None:
    """Stop the training of the first `layers` layers and of all weights before them. 0 freezes nothing.

    Raises UserError if the model has fewer layers, or no single list of them: ALBERT's layers share their weights, and
    BART has a decoder, too.
    """
    if not layers:
        return
    encoder, count = model.base_model, model.config.num_hidden_layers
    stacks = [part for part in encoder.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    stack = stacks[0] if len(stacks) == 1 else nn.ModuleList()
    if layers > len(stack):
        raise UserError(f"train.frozen_layers={layers}: {model.config.model_type} has {len(stack)} layers to freeze")
    last = list(stack[layers - 1].parameters())[-1]
    for weights in encoder.parameters():  # the embeddings, then the layers in their order
        weights.requires_grad_(False)
        if weights is last:
            break


def list_encoder_linears(model: PreTrainedModel) -> list[nn.Linear]:
    """Return the Linears that compute with every token. The head, with its pooler, has few rows and is left out."""
    pooler = getattr(model.base_model, "pooler", None)
    heads = set(pooler.modules()) if pooler else set()
    return [module for module in model.base_model.modules() if isinstance(module, nn.Linear) and module not in heads]
