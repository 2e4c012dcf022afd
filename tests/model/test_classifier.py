"""Loading an encoder or a saved classifier, the weights that a file lacks, and files that are refused."""

import json

import pytest
import tiny
import torch
from loopback import list_bert_base_shapes
from safetensors.torch import load_file, save_file
from tokenizers import processors
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


def make_masked_language_model(folder):
    BertForMaskedLM(tiny.config()).save_pretrained(folder)


def make_earlier_classifier(labels):
    """RoBERTa's head has two layers. With another number of labels, only the last one has another shape."""

    def save(folder):
        sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = RobertaConfig(**sizes, intermediate_size=24, num_labels=labels, problem_type="regression")
        RobertaForSequenceClassification(config).save_pretrained(folder)

    return save


@pytest.mark.parametrize(
    ("save", "random_weights", "message"),
    [
        (tiny.encoder, "classifier.weight", ""),
        (make_masked_language_model, "bert.pooler.dense.weight", "has no pooler: bert.pooler.dense.bias"),
        (make_earlier_classifier(2), "classifier.dense.weight", "has an earlier head, which is left out: classifier."),
        (make_earlier_classifier(3), "classifier.dense.weight", "has an earlier head, which is left out: classifier."),
    ],
)
def test_the_head_is_random_and_the_encoder_is_the_files(encoder, capsys, save, random_weights, message):
    save(encoder)
    stored, weights = load_file(encoder / "model.safetensors"), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = classifier.load(encoder, CPU, COLA_LABELS)
        weights.append(model.get_parameter(random_weights))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], stored.get(random_weights, torch.zeros(1)))
    assert model.config.problem_type is None
    assert model.config.id2label == {0: "unacceptable", 1: "acceptable"}
    embeddings = next(tensor for name, tensor in stored.items() if name.endswith("word_embeddings.weight"))
    assert torch.equal(model.get_input_embeddings().weight, embeddings)
    printed = capsys.readouterr().out
    assert message in printed
    assert bool(message) == bool(printed)


def test_an_unpretrained_model_has_random_weights_of_berts_size(encoder):
    stored, models = load_file(encoder / "model.safetensors"), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(dict(classifier.load(encoder, CPU, COLA_LABELS, pretrained=False).named_parameters()))
    weights, same_seed, another_seed = models
    random = [name for name, tensor in weights.items() if tensor.std() > 0]  # biases are 0, LayerNorm's weights 1
    assert len(random) == 2 * 6 + 3 + 2  # the layers; the embeddings; pooler and head
    for name in random:
        assert torch.equal(weights[name], same_seed[name])
        assert not torch.equal(weights[name], another_seed[name])
        assert not torch.equal(weights[name], stored.get(name.removeprefix("bert."), torch.zeros(1))), name
    values = torch.cat([weights[name].detach().flatten() for name in random])
    assert values.std().item() == pytest.approx(0.02, rel=0.05)  # BERT's initializer_range


def to_old_name(name):
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def test_a_checkpoint_with_old_names_and_pretraining_heads_loads_whole(encoder):
    """google-bert/bert-base-uncased has the prefix 'bert.', LayerNorm gamma and beta, and heads for pretraining."""
    model = classifier.load(encoder, CPU, COLA_LABELS)
    assert isinstance(model, BertForSequenceClassification)
    assert model.classifier.weight.shape == (2, 16)
    whole = BertForMaskedLM(tiny.config()).state_dict() | model.state_dict()
    old = {
        to_old_name(name): tensor.clone()
        for name, tensor in whole.items()
        if not name.startswith("classifier") and "decoder" not in name
    } | {"cls.seq_relationship.weight": torch.randn(2, 16), "cls.seq_relationship.bias": torch.randn(2)}
    layout = {name.replace("layer.11", "layer.1") for name in list_bert_base_shapes()}
    assert set(old) <= layout, "not the layout of bert-base-uncased's file"
    save_file(old, encoder / "model.safetensors", metadata={"format": "pt"})
    model = classifier.load(encoder, CPU, COLA_LABELS)
    loaded = dict(model.bert.named_parameters())
    assert len(loaded) == 39
    for name, weights in loaded.items():
        assert torch.equal(weights, old[f"bert.{to_old_name(name)}"]), name
    classifier.save(model, encoder)
    assert load_file(encoder / "model.safetensors").keys() == dict(model.named_parameters()).keys()


TEMPLATE = processors.TemplateProcessing(single="[CLS]:1 $A:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({"problem_type": "multi_label_classification"}, None),
        ({}, {"model_max_length": 10**30}),
        ({"output_attentions": True, "return_dict": False, "chunk_size_feed_forward": 3}, {}),
        ({}, {"padding_side": "left", "model_input_names": ["input_ids"]}),
        ({}, {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}),
    ],
)
def test_a_transformers_pipeline_predicts_the_same_with_the_saved_model(encoder, tmp_path, config, settings):
    """Text by text, and in a batch; the third text is longer than the training's. Without `settings`: vocab.txt."""
    texts = ["word1 word30", "word2", "word1 word30 " * 100, "word3 word4 word5"]
    change_config(**config)(encoder)
    original = {"vocab.txt": ""}
    if settings is not None:
        tokenizer = tiny.make_word_tokenizer()
        if "token_type_ids" in settings.get("model_input_names", ()):
            tokenizer.backend_tokenizer.post_processor = TEMPLATE
        tokenizer.save_pretrained(encoder)
        (encoder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"} | settings)
        )
        original = {"tokenizer.json": "", "tokenizer_config.json": ""}
    model = classifier.load(encoder, CPU, COLA_LABELS)
    torch.nn.init.normal_(model.classifier.weight, std=2)
    folder = tmp_path / "finetuned"
    classifier.save(model, folder)
    (encoder / "source.json").write_text(json.dumps({"files": original}))
    encoding.copy_tokenizer(encoder, folder, 16)
    predictions = prediction.Predictor(folder, CPU, torch.float32).classify(texts)
    expected = [{"label": label, "score": pytest.approx(probability, abs=1e-6)} for label, probability in predictions]
    classify = pipeline("text-classification", str(folder), truncation=True)  # as in the model card
    assert [classify(text)[0] for text in texts] == expected
    assert classify(texts, batch_size=4) == expected
    assert str(tmp_path) not in "".join(path.read_text() for path in folder.glob("*.json"))
    saved = classifier.load(folder, CPU)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), saved.parameters(), strict=True))


def change_weights(change):
    def damage(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def fill_a_bias(value):
    return change_weights(lambda tensors: tensors["pooler.dense.bias"].fill_(value))


def change_config(**changes):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return damage


def save_as_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pickle")  # load_file maps the old file
    (folder / "pickle").replace(folder / "model.safetensors")


MISFIT = r"model\.safetensors does not fit its config\.json"
NO_MODEL = "no model that can be loaded"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_weights(lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight")), MISFIT),
        (change_weights(lambda tensors: tensors.pop("pooler.dense.weight")), MISFIT),
        (change_weights(lambda tensors: tensors.update({"embeddings.LayerNorm.weight": torch.ones(8)})), MISFIT),
        (fill_a_bias(torch.nan), "pooler.dense.bias is not finite"),
        (fill_a_bias(torch.inf), "pooler.dense.bias is not finite"),
        (save_as_pickle, NO_MODEL),
        (lambda folder: (folder / "model.safetensors").unlink(), NO_MODEL),
        (lambda folder: (folder / "config.json").write_text("{"), NO_MODEL),
        (change_config(quantization_config={"quant_method": "gptq", "bits": 4}), NO_MODEL),
        (change_config(model_type="own", auto_map={"AutoModelForSequenceClassification": "own.Model"}), NO_MODEL),
    ],
)
def test_an_unsound_model_is_refused_in_one_line(encoder, damage, message):
    (encoder / "own.py").write_text("raise SystemExit('code that came with a model was run')")
    damage(encoder)
    with pytest.raises(UserError, match=message) as refused:
        classifier.load(encoder, CPU, COLA_LABELS)
    assert "\n" not in str(refused.value)
