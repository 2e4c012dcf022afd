"""A trained model as it is used: logits of sentences of any number, labels and probabilities of texts."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from cola.core.errors import UserError, one_line
from cola.data import encoding
from cola.model import batching, classifier, families, metrics

BATCH_SIZE = 128  # sentences; it changes the speed, and no result but by rounding
BATCH_TOKENS = 2**13  # padding included, what bounds the memory: 128 sentences of 64 tokens
READS_PADDING = 1e-3  # of the logits' size: what rounding does not change


@torch.inference_mode()
def predict_logits(
    model: PreTrainedModel,
    input_ids: Sequence[batching.TokenIds],
    precision: torch.dtype,
    *,
    padded: bool = False,
    batch_tokens: int | None = None,
) -> np.ndarray:
    """Logits (sentences, classes) float32 of sentences of any number, without dropout, in the order given.

    Sentences are packed where the model can take them so, unless `padded` asks for the reference. A batch has at most
    `batch_tokens` tokens with its padding, BATCH_TOKENS by default, or one sentence.
    """
    model.eval()
    packed = families.supports(model) and not padded
    # Sentences of like length share a batch: less padding.
    order = np.argsort([len(ids) for ids in input_ids], kind="stable")
    logits = np.empty((len(input_ids), len(classifier.label_names(model))), dtype=np.float32)
    for batch_rows in batching.split_into_batches(order, BATCH_SIZE):
        parts = batching.split_into_micro_batches(batch_rows, input_ids, batch_tokens or BATCH_TOKENS, padded=True)
        for rows in parts:
            batch = classifier.collate(model, [input_ids[row] for row in rows], packed)
            logits[rows] = classifier.logits(model, batch, precision).cpu().numpy()
    return logits


def check_padding(model: PreTrainedModel, folder: Path) -> None:
    """Raise UserError where what the model says of a sentence depends on those beside it in a batch.

    Its encoder then reads the padding, as XLNet and FNet do. The tokenizer is that in `folder`.
    """
    tokenizer = encoding.load_tokenizer(folder)
    texts = ("Yes.", "She left early, because the train would not wait for her.")
    input_ids, _ = encoding.encode(texts, tokenizer, min(tokenizer.model_max_length, 16))
    try:
        alone, (beside, _) = (predict_logits(model, ids, torch.float32) for ids in (input_ids[:1], input_ids))
    except Exception as error:  # of any class: models that need more than token ids have their own
        raise UserError(f"{model.config.model_type} cannot classify: {one_line(error)}") from None
    if not np.allclose(alone, beside, rtol=0, atol=READS_PADDING * np.abs(alone).max()):
        raise UserError(
            f"{model.config.model_type} reads the padding of a batch, so that a sentence's label depends on its "
            "neighbours: take an encoder of another kind (fetch.encoder)"
        )


def make_fast(model: PreTrainedModel, precision: torch.dtype) -> None:
    """Convert the encoder's Linears to `precision` once; autocast would do so at every use. Irreversible."""
    if families.supports(model):
        families.use_short_attention(model)
    for linear in families.encoder_linears(model):
        linear.to(precision)


class Predictor:
    """A trained model, ready to predict. It changes nothing for the process (see device.prepare_device)."""

    def __init__(self, folder: Path, device: torch.device, precision: torch.dtype) -> None:
        """Load the model in `folder`, which multiplies matrices in `precision`. Raises UserError as classifier.load."""
        self.precision = precision
        self.model = classifier.load(folder, device)
        make_fast(self.model, self.precision)
        self.label_names = classifier.label_names(self.model)  # by number
        self.tokenizer = encoding.load_tokenizer(folder)  # its model_max_length is what the model was trained for

    def logits(self, input_ids: Sequence[batching.TokenIds]) -> np.ndarray:
        """Logits (sentences, classes) float32."""
        return predict_logits(self.model, input_ids, self.precision)

    def classify(self, texts: Iterable[str]) -> list[tuple[str, float]]:
        """The most probable label of each text, and its probability. Longer texts than it was trained for are cut."""
        if not (texts := list(texts)):
            return []  # tokenizers do not take nothing
        input_ids, _ = encoding.encode(texts, self.tokenizer, self.tokenizer.model_max_length)
        probabilities = metrics.probabilities(self.logits(input_ids))
        return [(self.label_names[row.argmax()], float(row.max())) for row in probabilities]
