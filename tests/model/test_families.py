"""Each family's packed sentences and head, against transformers' own model on one sentence alone."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedConfig

from benchmarks import workload
from cola.core.errors import UserError
from cola.model import batching, classifier, families


def classifier_of(config: PreTrainedConfig):
    """It says something of its sentences: with weights as small as a new model's, all logits would be alike."""
    torch.manual_seed(0)
    config.initializer_range = 0.2
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.set_attn_implementation("eager")
    return model


def logits(model, batch):
    return classifier.logits(model, batch, torch.float32).cpu()


def sentences(seed=0):
    """Fifteen sentences of 3 to 70 tokens: more than a row's 64, and than ModernBERT's window."""
    rng = np.random.default_rng(seed)
    return [rng.integers(4, 50, length) for length in [70, *rng.integers(3, 20, 14)]]


@pytest.mark.parametrize("family", families.FAMILIES)
def test_what_it_says_of_packed_sentences_is_what_the_model_says_of_each_alone(family, device):
    """Each alone on the CPU."""
    model = classifier_of(workload.configure(family, layers=4))
    alone = torch.cat([model(input_ids=torch.tensor(ids)[None]).logits for ids in sentences()])
    assert alone.std(dim=0).min() > 0.05
    families.use_short_attention(model.to(device))
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if device.type == "cpu" else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(logits(model, batching.pack(sentences())), alone, **tolerance)
    torch.testing.assert_close(logits(model, batching.pad(sentences(), 1)), alone, **tolerance)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_table_says_which_models_take_our_attention(family):
    model = classifier_of(workload.configure(family, layers=2))
    families.use_short_attention(model)
    assert model.config._attn_implementation == ("eager" if family == "mpnet" else "short_sentences")
    assert families.FAMILIES[family].takes_attention == (family != "mpnet")


def test_modernberts_head_takes_the_first_token_where_its_configuration_says_so():
    config = workload.configure("modernbert", layers=4)
    config.classifier_pooling = "cls"
    model = classifier_of(config)
    alone = torch.cat([model(input_ids=torch.tensor(ids)[None]).logits for ids in sentences()])
    torch.testing.assert_close(logits(model, batching.pack(sentences())), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_attention_drops_what_the_configuration_says(family, device):
    found = {}
    for probability in (0.0, 0.5):
        config = workload.configure(family)
        for key, value in config.to_dict().items():
            if "dropout" in key and isinstance(value, float):
                setattr(config, key, probability if "attention" in key else 0.0)
        model = classifier_of(config).to(device).train()
        families.use_short_attention(model)
        batch = batching.pack(sentences())
        found[probability] = torch.equal(logits(model, batch), logits(model, batch))
    assert found == {0.0: True, 0.5: False}


def test_the_head_is_no_linear_of_the_encoder():
    for family, head in [("bert", 2), ("albert", 2), ("distilbert", 2), ("roberta", 2), ("modernbert", 2)]:
        model = classifier_of(workload.configure(family, layers=2))
        every = sum(isinstance(module, torch.nn.Linear) for module in model.modules())
        assert len(families.encoder_linears(model)) == every - head, family


def test_a_decoder_and_another_family_are_not_known():
    assert families.supports(classifier_of(workload.configure("bert")))
    decoder = workload.configure("bert")
    decoder.is_decoder = True
    assert not families.supports(classifier_of(decoder))
    assert not families.supports(classifier_of(workload.configure("deberta-v2")))


@pytest.mark.parametrize("family", [family for family in families.FAMILIES if family != "albert"])
def test_the_embeddings_and_the_first_layers_are_frozen(family):
    model = classifier_of(workload.configure(family, layers=3))
    families.freeze(model, 0)
    assert all(weights.requires_grad for weights in model.parameters())
    families.freeze(model, 2)
    found = {name: weights.requires_grad for name, weights in model.named_parameters()}
    layers = {name: trained for name, trained in found.items() if ".layer." in name or ".layers." in name}
    assert {number: {trained for name, trained in layers.items() if f".{number}." in name} for number in range(3)} == {
        0: {False},
        1: {False},
        2: {True},
    }
    others = {name: trained for name, trained in found.items() if name not in layers}
    assert {name for name, trained in others.items() if not trained} == {name for name in others if "embedding" in name}
    assert sum(others.values()) >= 2, "the head"


@pytest.mark.parametrize(("family", "layers", "own"), [("bert", 4, 3), ("albert", 1, 0)])
def test_layers_that_are_not_there_are_refused(family, layers, own):
    model = classifier_of(workload.configure(family, layers=3))
    with pytest.raises(UserError, match=f"^train.frozen_layers={layers}: {family} has {own} layers to freeze$"):
        families.freeze(model, layers)
