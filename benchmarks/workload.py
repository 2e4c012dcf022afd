"""The benchmarks' input: sentences as long as CoLA's, models of real shapes with random weights, and the machine."""

import copy

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
)
from transformers.utils import logging

from cola.model.device import choose_precision, describe_machine

# The number of CoLA's 7,695 training sentences by their number of tokens.
LENGTHS = {
    4: 5, 5: 115, 6: 278, 7: 586, 8: 873, 9: 1029, 10: 1013, 11: 825, 12: 711, 13: 522, 14: 411, 15: 308, 16: 216,
    17: 159, 18: 134, 19: 115, 20: 90, 21: 64, 22: 62, 23: 56, 24: 37, 25: 23, 26: 17, 27: 14, 28: 6, 29: 8, 30: 5,
    31: 1, 32: 7, 33: 1, 35: 1, 37: 1, 40: 1, 47: 1,
}  # fmt: skip
VOCABULARY = np.arange(5_584)  # CoLA's training and validation sentences use so many of BERT's 30,522 token ids
SPECIAL = 4  # the first ids; RoBERTa counts no position for padding's id within a sentence
BATCH_SIZE = 32  # sentences
STEPS = 4 * 241  # of the tutorial's four epochs

SHAPES: dict[str, PreTrainedConfig] = {
    "bert-base-uncased": BertConfig(),  # its defaults
    "all-MiniLM-L6-v2": BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    ),
    "roberta-base": RobertaConfig(max_position_embeddings=514, type_vocab_size=1),
    "all-mpnet-base-v2": MPNetConfig(max_position_embeddings=514),
    "electra-base": ElectraConfig(embedding_size=768, hidden_size=768, num_attention_heads=12, intermediate_size=3072),
    "modernbert-base": ModernBertConfig(classifier_pooling="mean"),
}

Batch = tuple[list[np.ndarray], torch.Tensor]  # token ids of each sentence, and labels (sentences,) int64


def draw_batches(count: int, seed: int, size: int = BATCH_SIZE, scale: float = 1) -> list[Batch]:
    """Return `count` batches of `size` sentences; `scale` makes every sentence that much longer."""
    rng = np.random.default_rng(seed)
    lengths = np.repeat(list(LENGTHS), list(LENGTHS.values()))
    return [
        (
            [rng.choice(VOCABULARY[SPECIAL:], round(scale * length)) for length in rng.choice(lengths, size)],
            torch.from_numpy(rng.integers(0, 2, size)),
        )
        for _ in range(count)
    ]


def build_model(shape: str | PreTrainedConfig, device: torch.device) -> PreTrainedModel:
    """Return a classifier with random weights; `shape` is a key of SHAPES or a configuration."""
    logging.set_verbosity_error()  # MPNet would warn that it keeps its attention
    torch.manual_seed(0)
    config = SHAPES[shape] if isinstance(shape, str) else shape
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(copy.deepcopy(config))
    torch.nn.Module.to(model, device)
    return model


def describe_machine_and_precision(device: torch.device) -> str:
    """Return what figures of speed and memory depend on: 'AMD EPYC, 2 threads, bfloat16'."""
    return f"{describe_machine(device)}, {str(choose_precision('auto', device)).removeprefix('torch.')}"
