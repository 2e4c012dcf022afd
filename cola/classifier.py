"""A pretrained encoder with a classification head: build, load, save, and the logits of sentences."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from cola import encoding
from cola.errors import UserError

LABELS = ["unacceptable", "acceptable"]  # by label: 0, 1


def load(folder: Path, device: torch.device) -> PreTrainedModel:
    """The model in `folder`, in float32, on `device`, in evaluation mode.

    Where the folder holds a bare encoder, a head is drawn from PyTorch's random state: for BERT, dropout on the pooled
    [CLS] and one linear layer, as in the tutorial. Pre-training heads in the file are left out. Raises UserError where
    any weight of the encoder is missing or has another shape: transformers would only warn, and draw it at random.
    """
    logging.set_verbosity_error()  # its table of missing and unused weights; what matters in it is checked below
    logging.disable_progress_bar()
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    encoder = f"{model.base_model_prefix}."
    lost = sorted(name for name in report["missing_keys"] if name.startswith(encoder) and ".pooler." not in name)
    if lost or report["mismatched_keys"]:
        raise UserError(
            f"{folder}/model.safetensors does not fit its config.json: {(lost or report['mismatched_keys'])[0]}"
        )
    return model.to(device).eval()


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write config.json and model.safetensors, float32, as `transformers.pipeline` loads them."""
    model.save_pretrained(folder)


def logits(model: nn.Module, batch: encoding.Batch) -> Tensor:
    """(sentences, classes) float32, on the model's device."""
    device = next(model.parameters()).device
    output = model(input_ids=batch.input_ids.to(device), attention_mask=batch.attention_mask.to(device))
    return output.logits


@torch.inference_mode()
def predict(model: PreTrainedModel, input_ids: Sequence[Sequence[int]], batch_size: int) -> np.ndarray:
    """Logits (sentences, classes) float32 of sentences of any number, without dropout, in the order given."""
    model.eval()
    # Sentences of like length share a batch, for less padding.
    order = np.argsort([len(ids) for ids in input_ids], kind="stable")
    found = np.empty((len(input_ids), len(LABELS)), dtype=np.float32)
    for rows in encoding.batches(order, batch_size):
        batch = encoding.pad([input_ids[row] for row in rows], model.config.pad_token_id)
        found[rows] = logits(model, batch).float().cpu().numpy()
    return found
