"""Logits of sentences of any number, and the trained model as people use it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from cola.model import batching, classifier, hardware

AT_ONCE = 128  # sentences that are predicted together


@torch.inference_mode()
def predict_logits(
    model: PreTrainedModel,
    input_ids: Sequence[batching.TokenIds],
    precision: torch.dtype,
    *,
    padded: bool = False,
) -> np.ndarray:
    """Logits (sentences, classes) float32 of sentences of any number, without dropout, in the order given.

    They are packed where the model can take them so, unless `padded` asks for the reference.
    """
    model.eval()
    packing = classifier.packable(model) and not padded
    # Sentences of like length share a batch: less padding.
    order = np.argsort([len(ids) for ids in input_ids], kind="stable")
    found = np.empty((len(input_ids), len(classifier.label_names(model))), dtype=np.float32)
    with hardware.autocast(model.device, precision):
        for rows in batching.split_into_batches(order, AT_ONCE):
            batch = classifier.collate(model, [input_ids[row] for row in rows], packing)
            found[rows] = classifier.logits(model, batch).cpu().numpy()
    return found


def prepare(model: PreTrainedModel, precision: torch.dtype) -> PreTrainedModel:
    """Make the model ready for fast prediction, for good: autocast would convert the Linears' weights at every use."""
    hardware.keep_freed_memory()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(precision)
    return model
