import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModel

from cola.core.errors import UserError
from cola.data import encoding

# [CLS] our friends won ' t buy this analysis , let alone the next one we propose . [SEP]
SENTENCE = "Our friends won't buy this analysis, let alone the next one we propose."
IDS = [101, 2256, 2814, 2180, 1005, 1056, 4965, 2023, 4106, 1010, 2292, 2894, 1996, 2279, 2028, 2057, 16599, 1012, 102]


@pytest.fixture(scope="module")
def tokenizer(encoder_folder):
    return encoding.load_tokenizer(encoder_folder)


@pytest.mark.parametrize(("max_length", "expected"), [(19, IDS), (18, [*IDS[:17], 102]), (3, [101, 2256, 102])])
def test_a_sentence_is_cut_at_the_limit_and_still_ends_with_sep(tokenizer, max_length, expected):
    input_ids, lengths = encoding.encode([SENTENCE], tokenizer, max_length)
    assert input_ids == [expected]
    assert lengths.tolist() == [19], "the length before the cut"


def test_more_tokens_than_the_encoder_takes_are_refused(tmp_path):
    tokenizer = encoding.load_tokenizer(tiny.encoder(tmp_path))
    encoding.check_max_length(64, tokenizer)
    with pytest.raises(UserError, match=r"^tokenize.max_length is 65, and this encoder takes at most 64$"):
        encoding.check_max_length(65, tokenizer)


OWN_SIZES = {"lilt": {"hidden_size": 24}, "layoutlmv3": {"coordinate_size": 2, "shape_size": 4}}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((kind, 38) for kind in sorted(encoding.POSITIONS_FROM_PADDING)),
        *((kind, 40) for kind in ("albert", "bert", "deberta-v2", "distilbert", "electra", "mobilebert", "xlm")),
    ],
)
def test_a_model_takes_as_many_tokens_as_it_has_positions_for_and_no_more(kind, expected):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = AutoConfig.for_model(
        kind, **sizes | OWN_SIZES.get(kind, {}), vocab_size=60, max_position_embeddings=40, pad_token_id=1
    )
    assert encoding.max_tokens(config) == expected
    model = AutoModel.from_config(config).eval()
    if kind == "xmod":
        model.set_default_language("en_XX")
    with torch.no_grad():
        model(input_ids=torch.full((1, expected), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, expected + 1), 5))


def test_an_encoder_without_absolute_positions_has_no_limit():
    assert encoding.max_tokens(AutoConfig.for_model("t5")) is None


def test_the_tokenizer_of_an_encoder_knows_the_limit(tmp_path):
    bert = encoding.load_tokenizer(tiny.encoder(tmp_path))
    assert bert.model_max_length == 64
    bert.save_pretrained(tmp_path)
    AutoConfig.for_model("mpnet", max_position_embeddings=64, pad_token_id=1).save_pretrained(tmp_path)
    assert encoding.load_tokenizer(tmp_path).model_max_length == 62


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match="has no tokenizer that can be loaded") as refused:
        encoding.load_tokenizer(tmp_path)
    assert "\n" not in str(refused.value)
