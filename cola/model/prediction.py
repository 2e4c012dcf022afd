"""A trained model as it is used: logits of sentences of any number, labels and probabilities of texts."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from cola.data import encoding
from cola.model import batching, classifier, hardware, metrics

BATCH_SIZE = 128  # sentences; it changes the speed, and no result but by rounding


@torch.inference_mode()
def predict_logits(
    model: PreTrainedModel,
    input_ids: Sequence[batching.TokenIds],
    precision: torch.dtype,
    *,
    padded: bool = False,
) -> np.ndarray:
    """Logits (sentences, classes) float32 of sentences of any number, without dropout, in the order given.

    Sentences are packed where the model can take them so, unless `padded` asks for the reference.
    """
    model.eval()
    packed = classifier.packable(model) and not padded
    # Sentences of like length share a batch: less padding.
    order = np.argsort([len(ids) for ids in input_ids], kind="stable")
    logits = np.empty((len(input_ids), len(classifier.label_names(model))), dtype=np.float32)
    with hardware.autocast(model.device, precision):
        for rows in batching.split_into_batches(order, BATCH_SIZE):
            batch = classifier.collate(model, [input_ids[row] for row in rows], packed)
            logits[rows] = classifier.logits(model, batch).cpu().numpy()
    return logits


def convert_linears(model: PreTrainedModel, precision: torch.dtype) -> None:
    """Keep the Linears' weights in `precision`, for good: autocast would convert them at every use."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(precision)


class Predictor:
    """A trained model, ready to predict."""

    def __init__(self, folder: Path, device: str, precision: str) -> None:
        """Load the model in `folder`; device and precision are named as in params.yaml.

        Raises UserError as hardware.prepare_device, choose_precision and classifier.load do.
        """
        on = hardware.prepare_device(device)
        self.precision = hardware.choose_precision(precision, on)
        self.model = classifier.load(folder, on)
        hardware.keep_freed_memory()
        convert_linears(self.model, self.precision)
        self.label_names = classifier.label_names(self.model)  # by number
        self.tokenizer = encoding.load_tokenizer(folder)  # its model_max_length is what the model was trained for

    def logits(self, input_ids: Sequence[batching.TokenIds]) -> np.ndarray:
        """Logits (sentences, classes) float32."""
        return predict_logits(self.model, input_ids, self.precision)

    def classify(self, texts: Iterable[str]) -> list[tuple[str, float]]:
        """The most probable label of each text, and its probability. Longer texts than it was trained for are cut."""
        input_ids, _ = encoding.encode(texts, self.tokenizer, self.tokenizer.model_max_length)
        probabilities = metrics.probabilities(self.logits(input_ids))
        return [(self.label_names[row.argmax()], float(row.max())) for row in probabilities]
