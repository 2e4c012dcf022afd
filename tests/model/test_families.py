"""Each family's packed sentences and head, compared with transformers' model on single sentences."""

import re

import numpy as np
import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig

from cola.core.errors import UserError
from cola.model import attention, batching, classifier, families

every_family = pytest.mark.parametrize("family", families.FAMILIES)


def build_classifier(config: PreTrainedConfig):
    """Build a model whose logits differ by sentence. A new model's weights are too small for that."""
    torch.manual_seed(0)
    config.initializer_range = 0.2
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.set_attn_implementation("eager")
    return model


def compute_logits(model, batch):
    return classifier.compute_logits(model, batch, torch.float32).cpu()


def draw_sentences():
    """Fifteen sentences of 3 to 70 tokens: longer than a row, and than ModernBERT's window."""
    rng = np.random.default_rng(0)
    return [rng.integers(4, 50, length) for length in [70, *rng.integers(3, 20, 14)]]


@pytest.mark.parametrize(
    ("family", "changes"),
    [*((family, {}) for family in families.FAMILIES), ("modernbert", {"classifier_pooling": "cls"})],
)
def test_logits_of_a_batch_are_those_of_transformers_for_single_sentences(family, changes, device):
    config = tiny.configure(family, layers=4)
    config.update(changes)
    model, sentences = build_classifier(config), draw_sentences()
    expected = torch.cat([model(input_ids=torch.tensor(ids)[None]).logits for ids in sentences])  # on the CPU
    assert expected.std(dim=0).min() > 0.05
    model.to(device).set_attn_implementation(attention.NAME)
    assert model.config._attn_implementation == ("eager" if family == "mpnet" else attention.NAME)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if device.type == "cpu" else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(compute_logits(model, batching.pack(sentences)), expected, **tolerance)
    torch.testing.assert_close(compute_logits(model, batching.pad(sentences, 1)), expected, **tolerance)


@every_family
@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_attention_drops_with_the_configurations_probability(family, probability, device):
    config = tiny.configure(family)
    for key, value in config.to_dict().items():
        if "dropout" in key and isinstance(value, float):
            setattr(config, key, probability if "attention" in key else 0.0)
    model = build_classifier(config).to(device).train()
    model.set_attn_implementation(attention.NAME)
    batch = batching.pack(draw_sentences())
    assert torch.equal(compute_logits(model, batch), compute_logits(model, batch)) == (probability == 0)


class CopiesBetweenDevices(TorchDispatchMode):
    """Records the operations that copy between devices; counts all."""

    def __init__(self):
        super().__init__()
        self.copies, self.count = [], 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device for tensor in tensors}) > 1:
            self.copies.append(operation)
        self.count += 1
        return result


@every_family
def test_a_step_never_waits_for_its_device_as_a_cuda_graph_asks(family, monkeypatch):
    """The meta device has no values: an operation that waits for one raises. A copy from the CPU would wait, too."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # the meta device knows no autocast
    model = build_classifier(tiny.configure(family)).to("meta").train()
    model.set_attn_implementation(attention.NAME)
    batch = batching.Packed(*(tensor.to("meta") for tensor in batching.pack(draw_sentences(), few_shapes=True)))
    with CopiesBetweenDevices() as operations:
        logits = families.classify(model, families.encode(model, batch))
        logits.sum().backward()
    assert logits.shape == (15, 2)
    assert operations.copies == []
    assert operations.count > 200


@pytest.mark.parametrize("family", ["bert", "albert", "distilbert", "roberta", "modernbert"])
def test_the_encoders_linears_are_all_but_the_heads_two(family):
    model = build_classifier(tiny.configure(family))
    linears = sum(isinstance(module, torch.nn.Linear) for module in model.modules())
    assert len(families.list_encoder_linears(model)) == linears - 2


def test_decoders_and_other_families_are_not_supported():
    assert families.supports(build_classifier(tiny.configure("bert")))
    decoder = tiny.configure("bert")
    decoder.is_decoder = True
    assert not families.supports(build_classifier(decoder))
    assert not families.supports(build_classifier(tiny.configure("deberta-v2")))


@pytest.mark.parametrize("family", [family for family in families.FAMILIES if family != "albert"])
def test_the_embeddings_and_the_first_layers_are_frozen(family):
    model = build_classifier(tiny.configure(family, layers=3))
    families.freeze(model, 0)
    assert all(weights.requires_grad for weights in model.parameters())
    families.freeze(model, 2)
    names = {trained: set() for trained in (True, False)}
    for name, weights in model.named_parameters():
        names[weights.requires_grad].add(name)
    assert names[False] == {
        name for name in names[True] | names[False] if re.search(r"embedding|layers?\.[01]\.", name)
    }
    assert any(re.search(r"layers?\.1\.", name) for name in names[False])
    assert any(re.search(r"layers?\.2\.", name) for name in names[True])
    assert any("classifier" in name for name in names[True])


@pytest.mark.parametrize(
    ("family", "frozen"),
    [
        ("gpt2", "transformer.(wte|wpe|h.0).*"),
        ("rembert", "rembert.(embeddings|encoder.embedding_hidden_mapping_in|encoder.layer.0).*"),
    ],
)
def test_what_comes_before_the_layers_is_frozen_whatever_its_name(family, frozen):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, vocab_size=40, **sizes))
    families.freeze(model, 1)
    for name, weights in model.named_parameters():
        assert weights.requires_grad != bool(re.fullmatch(frozen, name)), name


@pytest.mark.parametrize(("family", "asked", "available"), [("bert", 4, 3), ("albert", 1, 0), ("xlm", 1, 0)])
def test_more_layers_than_the_model_has_are_refused(family, asked, available):
    model = build_classifier(tiny.configure(family, layers=3))
    with pytest.raises(UserError, match=f"^train.frozen_layers={asked}: {family} has {available} layers to freeze$"):
        families.freeze(model, asked)
