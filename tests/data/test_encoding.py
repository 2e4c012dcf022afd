import json
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
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
def test_a_truncated_sentence_still_ends_with_sep(tokenizer, max_length, expected):
    input_ids, lengths = encoding.encode([SENTENCE], tokenizer, max_length)
    assert input_ids == [expected]
    assert lengths.tolist() == [19], "before truncation"


def test_a_max_length_beyond_the_encoders_positions_is_refused(tmp_path):
    tiny.encoder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 32}')  # an earlier training's max_length
    encoding.check_max_length(64, tmp_path)
    with pytest.raises(UserError, match=r"^tokenize.max_length is 65, and this encoder takes at most 64$"):
        encoding.check_max_length(65, tmp_path)


FURTHER_SIZES = {"lilt": {"hidden_size": 24}, "layoutlmv3": {"coordinate_size": 2, "shape_size": 4}}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((kind, 38) for kind in sorted(encoding.POSITIONS_FROM_PADDING)),
        *((kind, 40) for kind in ("albert", "bert", "deberta-v2", "distilbert", "electra", "mobilebert", "xlm")),
    ],
)
def test_a_model_computes_its_number_of_positions_and_no_more(kind, expected):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = AutoConfig.for_model(
        kind, **sizes | FURTHER_SIZES.get(kind, {}), vocab_size=60, max_position_embeddings=40, pad_token_id=1
    )
    assert encoding.read_max_tokens(config) == expected
    model = AutoModel.from_config(config).eval()
    if kind == "xmod":
        model.set_default_language("en_XX")
    with torch.no_grad():
        model(input_ids=torch.full((1, expected), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, expected + 1), 5))


@pytest.mark.parametrize(("kind", "positions"), [("t5", None), ("xlnet", None), ("esm", 1025), ("mpnet", 510)])
def test_a_config_tells_the_number_of_positions(kind, positions):
    """T5 has no absolute positions, XLNet's number is -1, and ESM's padding may have no id."""
    assert encoding.read_max_tokens(AutoConfig.for_model(kind)) == positions


def test_a_tokenizer_knows_the_encoders_limit(tmp_path):
    bert = encoding.load_tokenizer(tiny.encoder(tmp_path))
    assert bert.model_max_length == 64
    bert.save_pretrained(tmp_path)
    AutoConfig.for_model("mpnet", max_position_embeddings=64, pad_token_id=1).save_pretrained(tmp_path)
    assert encoding.load_tokenizer(tmp_path).model_max_length == 62


@pytest.mark.parametrize(("limit", "expected"), [(-1, 64), (10**30, 64), (12, 12)])
def test_a_tokenizers_own_limit_counts_if_it_is_one(tmp_path, limit, expected):
    tiny.encoder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
    assert encoding.load_tokenizer(tmp_path).model_max_length == expected


def test_a_sentence_without_tokens_is_refused(tmp_path):
    tokenizer = encoding.load_tokenizer(tiny.encoder(tmp_path))
    tokenizer.backend_tokenizer.post_processor = None
    assert encoding.encode(["word1", "word2"], tokenizer, 8)[0] == [[6], [7]]
    with pytest.raises(
        UserError, match=r"^the encoder's tokenizer makes no token of the sentence '\\u200b': remove it$"
    ):
        encoding.encode(["word1", "\u200b"], tokenizer, 8)


def test_an_end_in_a_sentence_is_refused_where_the_model_needs_a_single_one(tmp_path):
    """BART's classifier reads the state of the end token, and fails if a batch has different numbers of them."""
    tiny.make_word_tokenizer().save_pretrained(tiny.encoder(tmp_path))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[SEP]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    sentences = ["word1", "word2[SEP]word3", "word4 [SEP]"]
    assert encoding.encode(sentences[1:2], encoding.load_tokenizer(tmp_path), 8)[0] == [[2, 7, 3, 8, 3]], "BERT may"
    AutoConfig.for_model("bart").save_pretrained(tmp_path)
    tokenizer = encoding.load_tokenizer(tmp_path)
    fault = r"^the sentence 'word2\[SEP\]word3' has \[SEP\] in it, this encoder's end of a text: remove \[SEP\]$"
    with pytest.raises(UserError, match=fault):
        encoding.encode(sentences, tokenizer, 8)
    remedied = [sentence.replace("[SEP]", " ") for sentence in sentences]
    assert encoding.encode(remedied, tokenizer, 8)[0] == [[2, 6, 3], [2, 7, 8, 3], [2, 9, 3]]


@pytest.mark.parametrize("files", [{}, {"config.json": '{"model_type": "bert"}', "tokenizer.json": "[]"}])
def test_a_folder_without_a_tokenizer_is_named(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="has no tokenizer that can be loaded") as refused:
        encoding.load_tokenizer(tmp_path)
    assert "\n" not in str(refused.value)


def test_two_threads_cut_a_text_as_one_does(tmp_path):
    tokenizer = encoding.load_tokenizer(tiny.encoder(tmp_path))
    texts = [["word1 " * 40], ["word2 word3"] * 20]
    expected = [encoding.encode(batch, tokenizer, 16)[0] for batch in texts]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda number: encoding.encode(texts[number % 2], tokenizer, 16)[0], range(1000)))
    assert together == expected * 500


@pytest.mark.parametrize(
    ("sentence", "message"), [([2, 1, 1, 1, 3], "100% of the corpus's tokens are unknown"), ([2, 1, 7, 7, 3], "")]
)
def test_a_corpus_of_unknown_words_prints_a_warning(tmp_path, capsys, sentence, message):
    """[UNK] is token 1. [CLS] and [SEP] are 2 and 3, and do not count."""
    tokenizer = encoding.load_tokenizer(tiny.encoder(tmp_path))
    encoding.warn_of_unknown_tokens(pa.chunked_array([[sentence], [sentence]], pa.list_(pa.int32())), tokenizer)
    printed = capsys.readouterr().out
    assert printed.startswith(message)
    assert bool(printed) == bool(message)


def test_a_tokenizers_files_are_copied_with_their_tokenizer_class(tmp_path):
    """transformers 4 does not know TokenizersBackend, transformers 5's name for the class."""
    encoder, folder = tiny.encoder(tmp_path / "encoder"), tmp_path / "finetuned"
    folder.mkdir()
    tiny.make_word_tokenizer().save_pretrained(encoder)
    (encoder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (encoder / "trainer_state.json").write_text("{}")
    (encoder / "source.json").write_text(json.dumps({"files": {path.name: "" for path in encoder.iterdir()}}))
    encoding.copy_tokenizer(encoder, folder, 32)
    config = (
        '{\n  "tokenizer_class": "PreTrainedTokenizerFast",\n  "padding_side": "right",\n'
        '  "model_input_names": [\n    "input_ids",\n    "attention_mask"\n  ],\n  "model_max_length": 32\n}\n'
    )
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "tokenizer.json": (encoder / "tokenizer.json").read_text(),
        "tokenizer_config.json": config,
    }
