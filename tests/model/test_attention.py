"""Packed BERT against transformers' own, sentence by sentence."""

import numpy as np
import pytest
import tiny
import torch
from transformers import BertForSequenceClassification

from cola.model import attention, batching


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return BertForSequenceClassification(tiny.config(num_hidden_layers=3)).base_model.eval()


def test_what_it_says_of_a_sentence_is_what_bert_says_of_it_alone(bert):
    sentences = [np.array(ids) for ids in ([2, 7, 3], [2, 3], [2, *range(5, 35), 3], [2, 9, 9, 3])]
    found = attention.first_token_states(bert, batching.pack(sentences, 0))
    assert found.shape == (4, bert.config.hidden_size)
    for ids, first in zip(sentences, found, strict=True):
        alone = bert(input_ids=torch.tensor(ids)[None]).last_hidden_state[0, 0]
        torch.testing.assert_close(first, alone, rtol=1e-5, atol=1e-6)


def test_attention_drops_what_its_dropout_says(bert):
    sentences = [np.array([2, 7, 3])] * 4
    layer = bert.encoder.layer[0]
    bert.train()
    for module in bert.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = batching.pack(sentences, 0)
    calm = attention.first_token_states(bert, batch)
    assert torch.equal(calm, attention.first_token_states(bert, batch))
    layer.attention.self.dropout.p = 0.5
    assert not torch.allclose(calm, attention.first_token_states(bert, batch))
