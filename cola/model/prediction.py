"""Prediction with a trained model: logits of any number of sentences, labels and probabilities of texts."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from cola.core.errors import UserError, join_lines
from cola.data import encoding
from cola.model import attention, batching, classifier, families, metrics
from cola.model.device import get_random_states, set_random_state

BATCH_SIZE = 128  # sentences; another size changes the speed, and results by rounding only
BATCH_TOKENS = 2**13  # with padding; bounds the memory: 128 sentences of 64 tokens
MORE_THAN_ROUNDING = 1e-4  # a difference, relative to the largest logit


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


def check_model(model: PreTrainedModel, folder: Path, longest: batching.TokenIds) -> None:
    """Try a model before its training. `folder` has the tokenizer, and `longest` is the longest sentence's token ids.

    Random states stay as they are. Raises UserError if the model cannot classify or be trained; if a sentence's logits
    depend on other sentences, as with XLNet, which reads a batch's padding, and BigBird, whose attention is another one
    after a short sentence; or if transformers' pipeline would compute other logits than this project.
    """
    kind, tokenizer, states = model.config.model_type, encoding.load_tokenizer(folder), get_random_states(model.device)
    texts = ["A", "Yes.", "She left early, because the train would not wait for her."]
    length = min(tokenizer.model_max_length, 16)
    try:
        input_ids = [longest, *encoding.encode(texts, tokenizer, length)[0]]
        alone = np.concatenate([predict_logits(model, [ids], torch.float32) for ids in input_ids])
        batched = predict_logits(model, input_ids, torch.float32)
        padded = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        with torch.inference_mode():
            in_pipeline = model(**padded.to(model.device)).logits.cpu().numpy()
            model.train()(**padded)  # Reformer's training mode takes other lengths
        model.config.validate()  # otherwise some settings are refused after the training, when it is saved
    except Exception as error:  # models that need more than token ids raise errors of many classes
        fault = f"{kind} cannot be trained: {join_lines(error)}; take another encoder (fetch.encoder)"
        raise UserError(fault) from None
    finally:
        model.eval()
        for device_type, state in states.items():
            set_random_state(device_type, state)
    tolerance = MORE_THAN_ROUNDING * np.abs(batched).max()
    if not np.allclose(alone, batched, rtol=0, atol=tolerance):
        raise UserError(
            f"{kind}: a sentence's label depends on other sentences, in its batch or before it: take an encoder of "
            "another kind (fetch.encoder)"
        )
    if not np.allclose(in_pipeline, batched[1:], rtol=0, atol=tolerance):
        raise UserError(
            f"{kind}: transformers' pipeline would compute other logits than this project: take another encoder "
            "(fetch.encoder)"
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
