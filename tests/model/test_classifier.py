import json

import numpy as np
import pytest
import tiny
import torch
from loopback import bert_base_shapes
from safetensors.torch import load_file, save_file
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from cola.core.errors import UserError
from cola.data import encoding
from cola.fetch.tables import COLA_LABELS
from cola.model import classifier, prediction

CPU = torch.device("cpu")


@pytest.fixture
def encoder(tmp_path):
    folder = tmp_path / "encoder"
    folder.mkdir()
    return tiny.encoder(folder)


def test_a_bare_encoder_gets_the_tutorials_head_and_keeps_its_weights(encoder):
    stored = load_file(encoder / "model.safetensors")
    torch.manual_seed(0)
    model = classifier.load(encoder, CPU, COLA_LABELS)
    assert isinstance(model, BertForSequenceClassification)
    assert model.classifier.weight.shape == (2, 16)
    assert model.config.id2label == {0: "unacceptable", 1: "acceptable"}
    loaded = dict(model.bert.named_parameters())
    assert len(loaded) == len(stored) == 39
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())


def masked_language_model(folder):
    BertForMaskedLM(tiny.config()).save_pretrained(folder)


def earlier_classifier(*names):
    """RoBERTa's head has two layers: with another number of labels, only the last of them does not fit."""

    def save(folder):
        sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = RobertaConfig(**sizes, intermediate_size=24, num_labels=len(names), problem_type="regression")
        RobertaForSequenceClassification(config).save_pretrained(folder)

    return save


@pytest.mark.parametrize(
    ("save", "weights", "told"),
    [
        (tiny.encoder, "classifier.weight", None),
        (
            masked_language_model,
            "bert.pooler.dense.weight",
            "has no pooler, which is drawn from the seed as the head is",
        ),
        (
            earlier_classifier("a", "b"),
            "classifier.dense.weight",
            "has an earlier head, which is left out: classifier.",
        ),
        (earlier_classifier("a", "b", "c"), "classifier.dense.weight", "has an earlier head, which is left out"),
    ],
)
def test_what_an_encoder_lacks_is_drawn_from_the_seed(encoder, capsys, save, weights, told):
    save(encoder)
    stored, draws = load_file(encoder / "model.safetensors"), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = classifier.load(encoder, CPU, COLA_LABELS)
        draws.append(model.get_parameter(weights))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], stored.get(weights, torch.zeros(1)))
    assert model.config.problem_type is None
    embeddings = next(tensor for name, tensor in stored.items() if name.endswith("word_embeddings.weight"))
    assert torch.equal(model.get_input_embeddings().weight, embeddings)
    printed = capsys.readouterr().out
    assert told in printed if told else printed == ""


def test_random_weights_are_drawn_from_the_seed_as_transformers_draws_them(encoder):
    stored = load_file(encoder / "model.safetensors")
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(classifier.load(encoder, CPU, COLA_LABELS, pretrained=False))
    config = json.loads((encoder / "config.json").read_text())
    one, same, other = (dict(model.named_parameters()) for model in models)
    drawn = [name for name, weights in one.items() if weights.std() > 0]  # the others are 0, or 1 in a LayerNorm
    assert len(drawn) == 2 * 6 + 3 + 2  # of each layer; the embeddings; pooler and head
    for name in drawn:
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])
        assert not torch.equal(one[name], stored.get(name.removeprefix("bert."), torch.zeros(1))), name
    values = torch.cat([one[name].detach().flatten() for name in drawn])
    assert values.std().item() == pytest.approx(config["initializer_range"], rel=0.05)  # 0.02: BERT's
    assert abs(values.mean().item()) < 1e-3
    assert models[0].config.id2label == {0: "unacceptable", 1: "acceptable"}
    assert not models[0].training


def test_a_checkpoint_with_old_names_and_pretraining_heads_loads_whole(encoder):
    """google-bert/bert-base-uncased's layout: prefix 'bert.', LayerNorm gamma and beta, heads that are not used."""
    whole = BertForMaskedLM(tiny.config())
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor.clone()
        for name, tensor in {**whole.state_dict(), **classifier.load(encoder, CPU, COLA_LABELS).state_dict()}.items()
        if not name.startswith("classifier") and "decoder" not in name
    } | {"cls.seq_relationship.weight": torch.randn(2, 16), "cls.seq_relationship.bias": torch.randn(2)}
    layout = {name.replace("layer.11", "layer.1") for name in bert_base_shapes()}
    assert set(old) <= layout, "not the layout of bert-base-uncased's own file"
    save_file(old, encoder / "model.safetensors", metadata={"format": "pt"})
    model = classifier.load(encoder, CPU, COLA_LABELS)
    arrived = 0
    for name, weights in model.bert.named_parameters():
        stored = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        assert torch.equal(weights, old[f"bert.{stored}"]), name
        arrived += 1
    assert arrived == 39
    classifier.save(model, encoder)
    assert load_file(encoder / "model.safetensors").keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("text", ["word1 word30", "word1 word30 " * 100])
def test_what_is_saved_says_the_same_in_a_transformers_pipeline(encoder, tmp_path, text):
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    model = classifier.load(encoder, CPU, COLA_LABELS)
    torch.nn.init.normal_(model.classifier.weight, std=2)
    folder = tmp_path / "finetuned"
    classifier.save(model, folder)
    (encoder / "source.json").write_text('{"files": {"vocab.txt": ""}}')
    encoding.copy_tokenizer(encoder, folder, 16)
    ((label, probability),) = prediction.Predictor(folder, CPU, torch.float32).classify([text])
    answer = pipeline("text-classification", str(folder), truncation=True)(text)  # as the model card does
    assert answer == [{"label": label, "score": pytest.approx(probability, abs=1e-6)}]
    assert str(tmp_path) not in "".join(path.read_text() for path in folder.glob("*.json"))
    again = classifier.load(folder, CPU)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_predictions_come_in_the_order_of_the_sentences(encoder):
    model = classifier.load(encoder, CPU, COLA_LABELS)
    input_ids = tiny.sentences(20)["input_ids"].to_list()
    together = prediction.predict_logits(model, input_ids, torch.float32)
    for padded in (True, False):
        alone = [prediction.predict_logits(model, [ids], torch.float32, padded=padded)[0] for ids in input_ids]
        np.testing.assert_allclose(together, np.array(alone), rtol=1e-4, atol=1e-6)


def with_weights(change):
    def damage(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def with_config(**changes):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return damage


def as_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pickle")  # not onto the file, which load_file maps
    (folder / "pickle").replace(folder / "model.safetensors")


NO_FIT = r"model\.safetensors does not fit its config\.json"
NO_MODEL = "no model that can be loaded"


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (with_weights(lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight")), NO_FIT),
        (with_weights(lambda tensors: tensors.pop("pooler.dense.weight")), NO_FIT),
        (with_config(quantization_config={"quant_method": "gptq", "bits": 4}), NO_MODEL),
        (with_weights(lambda tensors: tensors.update({"embeddings.LayerNorm.weight": torch.ones(8)})), NO_FIT),
        (
            with_weights(lambda tensors: tensors["pooler.dense.bias"].fill_(torch.nan)),
            "pooler.dense.bias is not finite",
        ),
        (
            with_weights(lambda tensors: tensors["pooler.dense.bias"].fill_(torch.inf)),
            "pooler.dense.bias is not finite",
        ),
        (as_pickle, NO_MODEL),
        (lambda folder: (folder / "model.safetensors").unlink(), NO_MODEL),
        (lambda folder: (folder / "config.json").write_text("{"), NO_MODEL),
        (with_config(model_type="own", auto_map={"AutoModelForSequenceClassification": "own.Model"}), NO_MODEL),
    ],
)
def test_what_is_no_sound_model_is_refused_in_one_line(encoder, damage, fault):
    (encoder / "own.py").write_text("raise SystemExit('code that came with a model was run')")
    damage(encoder)
    with pytest.raises(UserError, match=fault) as refused:
        classifier.load(encoder, CPU, COLA_LABELS)
    assert "\n" not in str(refused.value)
