"""Prediction with a trained model: logits of any number of sentences, labels and probabilities of texts."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from cola.core.errors import UserError, join_lines
from cola.data import encoding
from cola.model import attention, batching, classifier, families, metrics

BATCH_SIZE = 128  # sentences; another size changes the speed, and results by rounding only
BATCH_TOKENS = 2**13  # with padding; bounds the memory: 128 sentences of 64 tokens
READS_PADDING = 1e-4  # a difference that rounding does not explain, relative to the largest logit


@torch.inference_mode()
def predict_logits(
    model: PreTrainedModel,
    input_ids: Sequence[batching.TokenIds],
    precision: torch.dtype,
    *,
    padded: bool = False,
    batch_tokens: int | None = None,
) -> np.ndarray:
    """Return logits (sentences, classes) float32, without dropout, in the order of input_ids.

    Sentences are packed if families supports the model, unless `padded` asks for the reference. A batch has at most
    `batch_tokens` tokens with its padding, BATCH_TOKENS by default, or a single sentence.
    """
    model.eval()
    packed = families.supports(model) and not padded
    # Sentences of similar length share a batch, which needs less padding.
    order = np.argsort([len(ids) for ids in input_ids], kind="stable")
    logits = np.empty((len(input_ids), len(classifier.read_label_names(model))), dtype=np.float32)
    for batch_rows in batching.split_into_batches(order, BATCH_SIZE):
        tokens = batch_tokens or BATCH_TOKENS
        for rows in batching.split_into_micro_batches(batch_rows, input_ids, tokens, padded=True):
            batch = classifier.collate(model, [input_ids[row] for row in rows], packed)
            logits[rows] = classifier.compute_logits(model, batch, precision).cpu().numpy()
    return logits


def check_padding(model: PreTrainedModel, folder: Path) -> None:
    """Raise UserError if a sentence's logits depend on its neighbours in a batch, or cannot be computed.

    Such an encoder reads the padding, as XLNet and FNet do. `folder` has the tokenizer.
    """
    tokenizer = encoding.load_tokenizer(folder)
    texts = ("Yes.", "She left early, because the train would not wait for her.")
    input_ids, _ = encoding.encode(texts, tokenizer, min(tokenizer.model_max_length, 16))
    try:
        (single,), (batched, _) = (predict_logits(model, ids, torch.float32) for ids in (input_ids[:1], input_ids))
    except Exception as error:  # models that need more than token ids raise errors of many classes
        raise UserError(f"{model.config.model_type} cannot classify: {join_lines(error)}") from None
    if not np.allclose(single, batched, rtol=0, atol=READS_PADDING * np.abs(single).max()):
        raise UserError(
            f"{model.config.model_type} reads the padding of a batch, so that a sentence's label depends on its "
            "neighbours: take an encoder of another kind (fetch.encoder)"
        )


def make_fast(model: PreTrainedModel, precision: torch.dtype) -> None:
    """Convert the encoder's Linears to `precision` once; autocast would do so at every use. Irreversible."""
    if families.supports(model):
        model.set_attn_implementation(attention.NAME)
    for linear in families.list_encoder_linears(model):
        linear.to(precision)


class Predictor:
    """A trained model with its tokenizer. It changes nothing for the process (see device.prepare_device)."""

    def __init__(self, folder: Path, device: torch.device, precision: torch.dtype) -> None:
        """Load the model in `folder`; it will multiply in `precision`. Raises UserError as classifier.load does."""
        self.precision = precision
        self.model = classifier.load(folder, device)
        make_fast(self.model, self.precision)
        self.label_names = classifier.read_label_names(self.model)  # by number
        self.tokenizer = encoding.load_tokenizer(folder)  # model_max_length is that of the training
        self.cut_texts = 0  # of the texts that were classified

    def compute_logits(self, input_ids: Sequence[batching.TokenIds]) -> np.ndarray:
        """Return logits (sentences, classes) float32."""
        return predict_logits(self.model, input_ids, self.precision)

    def classify(self, texts: Iterable[str]) -> list[tuple[str, float]]:
        """Return each text's most probable label, with the probability. Texts are cut to the training's length."""
        if not (texts := list(texts)):
            return []  # tokenizers reject an empty list
        input_ids, lengths = encoding.encode(texts, self.tokenizer, self.tokenizer.model_max_length)
        self.cut_texts += int((lengths > self.tokenizer.model_max_length).sum())
        probabilities = metrics.compute_probabilities(self.compute_logits(input_ids))
        return [(self.label_names[row.argmax()], float(row.max())) for row in probabilities]
