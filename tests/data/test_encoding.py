import pytest
import tiny

from cola.core.errors import UserError
from cola.data import encoding

# [CLS] our friends won ' t buy this analysis , let alone the next one we propose . [SEP]
SENTENCE = "Our friends won't buy this analysis, let alone the next one we propose."
IDS = [101, 2256, 2814, 2180, 1005, 1056, 4965, 2023, 4106, 1010, 2292, 2894, 1996, 2279, 2028, 2057, 16599, 1012, 102]


@pytest.fixture(scope="module")
def tokenizer(encoder_folder):
    return encoding.load_tokenizer(encoder_folder)


def test_the_tutorials_first_sentence_has_the_tutorials_ids(tokenizer):
    input_ids, lengths = encoding.encode([SENTENCE], tokenizer, 64)
    assert input_ids == [IDS]
    assert lengths.tolist() == [19]


def test_a_sentence_that_is_too_long_is_cut_and_still_ends_with_sep(tokenizer):
    input_ids, lengths = encoding.encode(["They left.", SENTENCE], tokenizer, 10)
    assert input_ids == [[101, 2027, 2187, 1012, 102], [*IDS[:9], 102]]
    assert lengths.tolist() == [5, 19], "the lengths before the cut"


@pytest.mark.parametrize(("max_length", "expected"), [(19, IDS), (18, [*IDS[:17], 102]), (3, [101, 2256, 102])])
def test_a_sentence_is_cut_at_the_limit_and_not_before(tokenizer, max_length, expected):
    assert encoding.encode([SENTENCE], tokenizer, max_length)[0] == [expected]


def test_more_tokens_than_the_encoder_takes_are_refused(tmp_path):
    tokenizer = encoding.load_tokenizer(tiny.encoder(tmp_path))
    encoding.check_max_length(64, tokenizer)
    with pytest.raises(UserError, match=r"^tokenize.max_length is 65, and this encoder takes at most 64$"):
        encoding.check_max_length(65, tokenizer)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match="has no tokenizer that can be loaded") as refused:
        encoding.load_tokenizer(tmp_path)
    assert "\n" not in str(refused.value)
