"""The Predictor with a tiny model, the sizes of batches, and encoders that cannot be trained."""

import os
from contextlib import nullcontext

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from cola.core.errors import UserError
from cola.data import encoding
from cola.model import classifier, families
from cola.model.prediction import Predictor, check_model, predict_logits

CPU = torch.device("cpu")
TEXTS = ["word1 word2", "word30", "word3 word4 word5 word6 word7"]


@pytest.fixture
def folder(tmp_path):
    tiny.encoder(tmp_path)
    torch.manual_seed(0)
    model = classifier.load(tmp_path, CPU, ["low", "high"])
    encoding.load_tokenizer(tmp_path).save_pretrained(tmp_path)
    classifier.save(model, tmp_path)
    return tmp_path


def test_a_text_gets_the_label_of_its_largest_logit_and_the_process_stays_as_it_was(folder):
    def read_process():
        return torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), dict(os.environ)

    before = read_process()
    predictor = Predictor(folder, CPU, torch.float32)
    input_ids, _ = encoding.encode(TEXTS, predictor.tokenizer, 64)
    logits = predictor.compute_logits(input_ids)
    assert logits.shape == (3, 2)
    expected = torch.softmax(torch.from_numpy(logits).double(), dim=1)
    assert predictor.label_names == ["low", "high"]
    for (label, probability), row in zip(predictor.classify(TEXTS), expected, strict=True):
        assert label == predictor.label_names[row.argmax()]
        assert probability == pytest.approx(row.max().item())
    assert predictor.classify([]) == []
    assert read_process() == before


def test_only_the_encoders_linears_are_in_low_precision(folder):
    model = Predictor(folder, CPU, torch.bfloat16).model
    linears = families.list_encoder_linears(model)
    assert len(linears) == 2 * 6
    assert {linear.weight.dtype for linear in linears} == {torch.bfloat16}
    assert model.classifier.weight.dtype == torch.float32
    assert model.get_input_embeddings().weight.dtype == torch.float32


@pytest.mark.parametrize(("limit", "largest", "batches"), [(None, 8192, 4), (512, 512, 50), (64, 128, 200)])
def test_a_batch_has_at_most_so_many_tokens_or_a_single_sentence(tmp_path, monkeypatch, limit, largest, batches):
    """200 sentences of 128 tokens. By default a batch has 64 of them: 128 sentences become two batches, and 72, too."""
    tiny.encoder(tmp_path, max_position_embeddings=128)
    model = classifier.load(tmp_path, CPU, ["low", "high"])
    input_ids = [[2, *[5 + number % 35] * 126, 3] for number in range(200)]
    sizes, collate = [], classifier.collate

    def record(model, ids, packed):
        sizes.append(len(ids) * max(map(len, ids)))
        return collate(model, ids, packed)

    monkeypatch.setattr(classifier, "collate", record)
    predict_logits(model, input_ids, torch.float32, batch_tokens=limit)
    assert max(sizes) == largest
    assert len(sizes) == batches


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bert", None),
        ("gpt2", None),
        ("fnet", "fnet: a sentence's label depends on other sentences"),
        ("xlnet", "xlnet: a sentence's label depends on other sentences"),
        ("big_bird", "big_bird: a sentence's label depends on other sentences, in its batch or before it: take"),
        ("canine", "canine cannot be trained: max_pool1d"),
        ("xmod", "xmod cannot be trained: Input language unknown"),
        ("reformer", "reformer cannot be trained: If training, make sure that config.axial_pos_shape"),
        ("electra", "electra: transformers' pipeline would compute other logits than this project: take another"),
    ],
)
def test_an_encoder_is_tried_before_its_training(tmp_path, monkeypatch, kind, message):
    torch.manual_seed(1)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(kind, **sizes, intermediate_size=24, d_inner=24, d_head=8, pad_token_id=0)
    if kind == "big_bird":
        config.update({"block_size": 4, "num_random_blocks": 1, "initializer_range": 0.5})
    if kind == "reformer":
        config.update({"axial_pos_shape": (8, 16), "axial_pos_embds_dim": (8, 8), "max_position_embeddings": 128})
    model = AutoModelForSequenceClassification.from_config(config).eval()
    if kind == "electra":  # as if transformers computed its head in another way
        family = families.FAMILIES[kind]
        changed = family._replace(apply_head=lambda model, states: family.apply_head(model, states) + 1)
        monkeypatch.setitem(families.FAMILIES, kind, changed)
    config.save_pretrained(tmp_path)
    tiny.make_word_tokenizer().save_pretrained(tmp_path)
    state = torch.get_rng_state()
    with pytest.raises(UserError, match=message) if message else nullcontext():
        check_model(model, tmp_path, [2, *range(5, 39), 3])
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
