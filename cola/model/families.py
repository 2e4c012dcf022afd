"""What differs between families of encoders: how each takes packed sentences, and its classification head.

A family is what config.json calls model_type, and FAMILIES is all that is known of it. tests/model/test_families.py
proves of each that loss and gradients are those of transformers' model on padded sentences.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cola.core.errors import UserError
from cola.model import attention, batching


class Family(NamedTuple):
    """What differs between families; the first argument of a function is the model with its head."""

    # (model, batch, positions (rows, length), additive mask (rows, 1, length, length)) -> what `encode` returns
    encode_packed: Callable[[Any, batching.Packed, Tensor, Tensor], tuple[Tensor, Tensor]]
    classify: Callable[[Any, Tensor, Tensor], Tensor]  # (model, states, mask) -> logits (sentences, classes)
    takes_attention: bool = True  # whether set_attn_implementation has the model call attention.attend


def _encode_first_tokens(model: Any, batch: batching.Packed, positions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The states of each sentence's first token, (sentences, 1, width), from layers that have BERT's parts.

    The head reads nothing else. So in the last layer, queries and all that follows attention are computed for these
    tokens only; keys and values are of every token.
    """
    encoder = model.base_model
    hidden = encoder.embeddings(input_ids=batch.input_ids, position_ids=positions)  # (rows, length, width)
    if hasattr(encoder, "embeddings_project"):  # ELECTRA's, where the embeddings are narrower
        hidden = encoder.embeddings_project(hidden)
    *layers, last = encoder.encoder.layer
    for layer in layers:
        hidden = layer(hidden, mask)
    row, column = batch.first_token_index // hidden.shape[1], batch.first_token_index % hidden.shape[1]
    first = hidden.flatten(0, 1).index_select(0, batch.first_token_index).unsqueeze(1)
    block = last.attention.self
    query = block.query(first)
    key = block.key(hidden).index_select(0, row)
    value = block.value(hidden).index_select(0, row)
    query, key, value = (
        states.unflatten(-1, (block.num_attention_heads, -1)).transpose(1, 2)  # (sentences, heads, tokens, size)
        for states in (query, key, value)
    )
    dropout = block.dropout.p if block.training else 0.0
    context, _ = attention.attend(block, query, key, value, mask[row, :, column].unsqueeze(2), block.scaling, dropout)
    attended = last.attention.output(context.flatten(2), first)
    states = last.output(last.intermediate(attended), attended)
    return states, torch.ones(states.shape[:2], dtype=torch.int64, device=states.device)


def _encode_all_tokens(model: Any, batch: batching.Packed, positions: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
    """The states of each sentence's first token, (sentences, 1, width), or of all its tokens for a head that takes
    their mean. transformers' forward() computes them.
    """
    encoder, takes_mean = model.base_model, getattr(model.config, "classifier_pooling", "cls") == "mean"
    hidden = encoder(input_ids=batch.input_ids, position_ids=positions, attention_mask=mask).last_hidden_state
    offsets = torch.arange(int(batch.lengths.max()) if takes_mean else 1, device=hidden.device)  # in a sentence
    index = batch.first_token_index.unsqueeze(1) + offsets  # (sentences, tokens)
    hidden = hidden.flatten(0, 1)
    return hidden[index.clamp(max=len(hidden) - 1)], (offsets < batch.lengths.unsqueeze(1)).long()


def _encode_with_window(model: Any, batch: batching.Packed, positions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """As _encode_all_tokens; in some layers tokens attend only to those at most config.sliding_window tokens away."""
    offsets = torch.arange(mask.shape[-1], device=mask.device)
    is_far = (offsets - offsets.unsqueeze(1)).abs() > model.config.sliding_window
    masks = {"full_attention": mask, "sliding_attention": mask.masked_fill(is_far, -torch.inf)}
    return _encode_all_tokens(model, batch, positions, masks)


def _classify_bert(model: Any, states: Tensor, _: Tensor) -> Tensor:
    return model.classifier(model.dropout(model.base_model.pooler(states)))


def _classify_albert(model: Any, states: Tensor, _: Tensor) -> Tensor:
    encoder = model.base_model
    return model.classifier(model.dropout(encoder.pooler_activation(encoder.pooler(states[:, 0]))))


def _classify_distilbert(model: Any, states: Tensor, _: Tensor) -> Tensor:
    return model.classifier(model.dropout(model.pre_classifier(states[:, 0]).relu()))


def _classify_modernbert(model: Any, states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1)
    takes_mean = model.config.classifier_pooling == "mean"
    pooled = (states * weights).sum(dim=1) / weights.sum(dim=1) if takes_mean else states[:, 0]
    return model.classifier(model.drop(model.head(pooled)))


def _classify_roberta(model: Any, states: Tensor, _: Tensor) -> Tensor:
    return model.classifier(states)  # it takes the first token itself


FAMILIES: Final = {
    "albert": Family(_encode_all_tokens, _classify_albert),
    "bert": Family(_encode_first_tokens, _classify_bert),
    "camembert": Family(_encode_first_tokens, _classify_roberta),
    "distilbert": Family(_encode_all_tokens, _classify_distilbert),
    "electra": Family(_encode_first_tokens, _classify_roberta),
    "modernbert": Family(_encode_with_window, _classify_modernbert),
    "mpnet": Family(_encode_all_tokens, _classify_roberta, takes_attention=False),  # it adds a bias by distance
    "roberta": Family(_encode_first_tokens, _classify_roberta),
    "xlm-roberta": Family(_encode_first_tokens, _classify_roberta),
}


def supports(model: PreTrainedModel) -> bool:
    """Whether the other functions take this model. Decoders are not supported: their attention is causal."""
    return model.config.model_type in FAMILIES and not getattr(model.config, "is_decoder", False)


def use_short_attention(model: PreTrainedModel) -> None:
    """Have the model attend with attention.attend where its family can."""
    if FAMILIES[model.config.model_type].takes_attention:
        model.set_attn_implementation(attention.NAME)


def encode(model: PreTrainedModel, batch: batching.Padded | batching.Packed) -> tuple[Tensor, Tensor]:
    """The last hidden states that the head reads, (sentences, tokens, width), and 1 for tokens, 0 for padding.

    For packed sentences these are each sentence's first token, or all tokens where the head takes their mean.
    """
    if isinstance(batch, batching.Padded):
        mask = batch.attention_mask
        return model.base_model(input_ids=batch.input_ids, attention_mask=mask).last_hidden_state, mask
    position_embeddings: Any = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(position_embeddings, "padding_idx", None)  # RoBERTa and MPNet count positions from behind it
    positions = batch.position_ids if padding is None else batch.position_ids + padding + 1
    mask = attention.additive_mask(batch.attention_mask)
    return FAMILIES[model.config.model_type].encode_packed(model, batch, positions, mask)


def classify(model: PreTrainedModel, states: Tensor, mask: Tensor) -> Tensor:
    """Logits (sentences, classes) from the two tensors of `encode`, as the model's forward() computes them."""
    return FAMILIES[model.config.model_type].classify(model, states, mask)


def freeze(model: PreTrainedModel, layers: int) -> None:
    """Have the embeddings and the first `layers` layers keep their weights; nothing for 0.

    Raises UserError where the model has fewer layers, or none that can be told apart: ALBERT's share their weights.
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


def encoder_linears(model: PreTrainedModel) -> list[nn.Linear]:
    """The Linears that compute with every token: all but the head's, which have few rows and keep all their digits."""
    pooler = getattr(model.base_model, "pooler", None)
    heads = set(pooler.modules()) if pooler else set()
    return [module for module in model.base_model.modules() if isinstance(module, nn.Linear) and module not in heads]
