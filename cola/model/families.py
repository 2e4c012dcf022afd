"""What differs between families of encoders: how each takes packed sentences, and its classification head.

A family is what config.json calls model_type. tests/model/test_families.py proves of each that loss and gradients are
those of transformers' own model on padded sentences.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cola.core.errors import UserError
from cola.model import attention, batching

_BERT_LAYERS: Final = ("bert", "camembert", "electra", "roberta", "xlm-roberta")  # their layers have BERT's parts
FAMILIES: Final = (*_BERT_LAYERS, "albert", "distilbert", "modernbert", "mpnet")


def known(model: PreTrainedModel) -> bool:
    """Whether the functions below take this model. A decoder is none: its tokens attend to earlier ones alone."""
    return model.config.model_type in FAMILIES and not getattr(model.config, "is_decoder", False)


def use_short_attention(model: PreTrainedModel) -> None:
    """Have the model attend with attention.attend. MPNet cannot: it adds a bias by distance, in code of its own."""
    if model.config.model_type != "mpnet":
        model.set_attn_implementation(attention.NAME)


def freeze(model: PreTrainedModel, layers: int) -> None:
    """Have the embeddings and the first `layers` layers keep their weights; nothing for 0.

    Raises UserError where the model has fewer layers, or none of its own: ALBERT's share their weights.
    """
    if not layers:
        return
    encoder, count = model.base_model, model.config.num_hidden_layers
    stacks = [part for part in encoder.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    stack = stacks[0] if stacks else nn.ModuleList()
    if layers > len(stack):
        raise UserError(f"train.frozen_layers={layers}: {model.config.model_type} has {len(stack)} layers to freeze")
    for layer in stack[:layers]:
        layer.requires_grad_(False)
    for name, weights in encoder.named_parameters():
        if name.startswith("embeddings"):  # also ELECTRA's embeddings_project
            weights.requires_grad_(False)


def linears(model: PreTrainedModel) -> list[nn.Linear]:
    """The Linears that compute with every token: all but the head's, which are few rows, and keep all their digits."""
    pooler = getattr(model.base_model, "pooler", None)
    heads = set(pooler.modules()) if pooler else set()
    return [module for module in model.base_model.modules() if isinstance(module, nn.Linear) and module not in heads]


def states(model: PreTrainedModel, batch: batching.Padded | batching.Packed) -> tuple[Tensor, Tensor]:
    """The last hidden states that the head reads, (sentences, tokens, width), and 1 for tokens, 0 for padding.

    Of packed sentences these are each one's first token alone, unless the head takes the mean of all.
    """
    if isinstance(batch, batching.Padded):
        mask = batch.attention_mask
        return model.base_model(input_ids=batch.input_ids, attention_mask=mask).last_hidden_state, mask
    position_embeddings: Any = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(position_embeddings, "padding_idx", None)  # RoBERTa and MPNet count positions from behind it
    positions = batch.position_ids if padding is None else batch.position_ids + padding + 1
    mask = attention.additive_mask(batch.attention_mask)
    if model.config.model_type in _BERT_LAYERS:
        first = _first_token_states(model.base_model, batch, positions, mask)
        return first, torch.ones(first.shape[:2], dtype=torch.int64, device=first.device)
    masks: Any = mask
    if model.config.model_type == "modernbert":
        masks = {"full_attention": mask, "sliding_attention": _within(model.config.sliding_window, mask)}
    hidden = model.base_model(input_ids=batch.input_ids, position_ids=positions, attention_mask=masks).last_hidden_state
    longest = int(batch.lengths.max()) if getattr(model.config, "classifier_pooling", "cls") == "mean" else 1
    place = torch.arange(longest, device=hidden.device)  # in a sentence
    index = batch.first_token_index.unsqueeze(1) + place  # (sentences, longest)
    hidden = hidden.flatten(0, 1)
    return hidden[index.clamp(max=len(hidden) - 1)], (place < batch.lengths.unsqueeze(1)).long()


def _within(window: int, mask: Tensor) -> Tensor:
    """The mask (rows, 1, length, length) where tokens attend only to those at most `window` tokens away."""
    place = torch.arange(mask.shape[-1], device=mask.device)
    return mask.masked_fill((place - place.unsqueeze(1)).abs() > window, -torch.inf)


def head(model: Any, states: Tensor, mask: Tensor) -> Tensor:
    """Logits (sentences, classes) from `states` and their mask, as the model's own forward() goes on from there."""
    encoder, family = model.base_model, model.config.model_type
    if family == "bert":
        return model.classifier(model.dropout(encoder.pooler(states)))
    if family == "albert":
        return model.classifier(model.dropout(encoder.pooler_activation(encoder.pooler(states[:, 0]))))
    if family == "distilbert":
        return model.classifier(model.dropout(model.pre_classifier(states[:, 0]).relu()))
    if family == "modernbert":
        weights = mask.unsqueeze(-1)
        mean = model.config.classifier_pooling == "mean"
        pooled = (states * weights).sum(dim=1) / weights.sum(dim=1) if mean else states[:, 0]
        return model.classifier(model.drop(model.head(pooled)))
    return model.classifier(states)  # it takes the first token itself


def _first_token_states(encoder: Any, batch: batching.Packed, positions: Tensor, mask: Tensor) -> Tensor:
    """The last hidden state of each sentence's first token: (sentences, 1, width).

    The head reads nothing else. So in the last layer, queries and all that follows attention are computed for these
    tokens alone; keys and values are of every token.
    """
    hidden = encoder.embeddings(input_ids=batch.input_ids, position_ids=positions)  # (rows, length, width)
    if hasattr(encoder, "embeddings_project"):  # of ELECTRA, where the embeddings are narrower
        hidden = encoder.embeddings_project(hidden)
    *layers, last = encoder.encoder.layer
    for layer in layers:
        hidden = layer(hidden, mask)
    row, place = batch.first_token_index // hidden.shape[1], batch.first_token_index % hidden.shape[1]
    first = hidden.flatten(0, 1).index_select(0, batch.first_token_index).unsqueeze(1)
    own = last.attention.self
    query, key, value = own.query(first), own.key(hidden).index_select(0, row), own.value(hidden).index_select(0, row)
    query, key, value = (
        states.unflatten(-1, (own.num_attention_heads, -1)).transpose(1, 2)  # (sentences, heads, tokens, size)
        for states in (query, key, value)
    )
    dropout = own.dropout.p if own.training else 0.0
    context, _ = attention.attend(own, query, key, value, mask[row, :, place].unsqueeze(2), own.scaling, dropout)
    attended = last.attention.output(context.flatten(2), first)
    return last.output(last.intermediate(attended), attended)
