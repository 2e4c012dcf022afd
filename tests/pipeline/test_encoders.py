"""Encoders of several kinds, tiny and random: fetched from a folder, tokenized, trained, saved, loaded again."""

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModel

from cola.data import encoding
from cola.fetch import download, encoders
from cola.model import classifier, prediction
from cola.train import loop
from cola.train.checkpoint import Checkpointer

CPU = torch.device("cpu")
KINDS = ["bert", "distilbert", "roberta", "mpnet", "electra", "deberta-v2", "modernbert"]
NAMES = ["high", "low", "middle"]


@pytest.fixture(params=KINDS)
def fetched(request, tmp_path):
    """A kind of encoder, and the folder that fetch writes for it."""
    for name in ("mine", "pretrained"):
        (tmp_path / name).mkdir()
    torch.manual_seed(1)
    config = tiny.configure(request.param)
    if request.param == "deberta-v2":
        config.update({"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8})
    AutoModel.from_config(config).save_pretrained(tmp_path / "mine")
    tiny.make_word_tokenizer(padding=config.pad_token_id).save_pretrained(tmp_path / "mine")
    download.fetch_encoder(str(tmp_path / "mine"), None, tmp_path / "pretrained")
    encoders.try_out("mine", tmp_path / "pretrained")
    return request.param, tmp_path / "pretrained"


def test_an_encoder_of_any_kind_is_trained_saved_and_loaded(fetched, tmp_path, capsys):
    kind, folder = fetched
    tokenizer = encoding.load_tokenizer(folder)
    table = tiny.sentences(96).assign(label=lambda frame: [ids[1] % 3 for ids in frame["input_ids"]])
    input_ids, _ = encoding.encode(table["sentence"], tokenizer, 64)
    assert [list(ids) for ids in table["input_ids"]] == input_ids

    torch.manual_seed(2)
    model = classifier.load(folder, CPU, NAMES)
    assert model.config.model_type == kind
    prediction.check_model(model, folder, max(input_ids, key=len))
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    splits = {"train": tiny.to_train_on(table), "validation": tiny.to_train_on(table[:32])}
    with loop.prepare(model, splits, tiny.RECIPE, torch.float32, seed=3) as training:
        epochs = loop.fit(training, Checkpointer())
    assert ("padded sentences" in capsys.readouterr().out) == (kind == "deberta-v2")
    assert len(epochs) == 2
    assert epochs[1].training_loss < epochs[0].training_loss
    changed = [name for name, weights in model.named_parameters() if not torch.equal(weights, before[name])]
    assert len(changed) >= 0.9 * len(before)

    (tmp_path / "finetuned").mkdir()
    classifier.save(model, tmp_path / "finetuned")
    loaded = classifier.load(tmp_path / "finetuned", CPU)
    assert classifier.read_label_names(loaded) == NAMES
    logits = prediction.predict_logits(model, input_ids, torch.float32)
    assert logits.shape == (96, 3)
    np.testing.assert_array_equal(logits, prediction.predict_logits(loaded, input_ids, torch.float32))
    by_sentence = [prediction.predict_logits(loaded, [ids], torch.float32)[0] for ids in input_ids[:5]]
    np.testing.assert_allclose(logits[:5], by_sentence, rtol=1e-3, atol=1e-5)  # padding changes nothing
