"""The Predictor on a tiny trained model; predict_logits is tested with the classifier."""

import os

import pytest
import tiny
import torch

from cola.data import encoding
from cola.model import classifier, families
from cola.model.prediction import Predictor

TEXTS = ["word1 word2", "word30", "word3 word4 word5 word6 word7"]


@pytest.fixture
def folder(tmp_path):
    tiny.encoder(tmp_path)
    torch.manual_seed(0)
    model = classifier.load(tmp_path, torch.device("cpu"), ["low", "high"])
    encoding.load_tokenizer(tmp_path).save_pretrained(tmp_path)
    classifier.save(model, tmp_path)
    return tmp_path


def test_a_texts_label_is_that_of_its_largest_logit(folder):
    predictor = Predictor(folder, torch.device("cpu"), torch.float32)
    input_ids, _ = encoding.encode(TEXTS, predictor.tokenizer, 64)
    logits = predictor.logits(input_ids)
    assert logits.shape == (3, 2)
    expected = torch.softmax(torch.from_numpy(logits).double(), dim=1)
    assert predictor.label_names == ["low", "high"]
    for (label, probability), row in zip(predictor.classify(TEXTS), expected, strict=True):
        assert label == predictor.label_names[row.argmax()]
        assert probability == pytest.approx(row.max().item())


def test_a_predictor_changes_nothing_for_the_process(folder):
    def process():
        return torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), dict(os.environ)

    before = process()
    Predictor(folder, torch.device("cpu"), torch.float32).classify(TEXTS)
    assert process() == before


def test_no_text_is_no_prediction(folder):
    assert Predictor(folder, torch.device("cpu"), torch.float32).classify([]) == []


def test_linears_are_in_the_precision_chosen(folder, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    model = Predictor(folder, torch.device("cpu"), torch.bfloat16).model
    linears = families.encoder_linears(model)
    assert len(linears) == 2 * 6
    assert model.classifier.weight.dtype == torch.float32
    assert {linear.weight.dtype for linear in linears} == {torch.bfloat16}
    assert model.get_input_embeddings().weight.dtype == torch.float32
