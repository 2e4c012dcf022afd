import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cola.core.errors import UserError
from cola.data import corpus

GOOD = b"gj04\t1\t\tOur friends won't buy this analysis.\n"
BAD = {
    b"": "1 columns, 4 expected",
    b"gj04\t1\t": "3 columns, 4 expected",
    b"gj04\t1\t\tHe left.\t": "5 columns, 4 expected",
    b"gj04\t\t\tHe left.": "label '', 0 or 1 expected",
    b"gj04\t2\t\tHe left.": "label '2', 0 or 1 expected",
    b"gj04\t1.0\t\tHe left.": "label '1.0', 0 or 1 expected",
    "gj04\t\u0661\t\tHe left.".encode(): "label '\u0661', 0 or 1 expected",  # a 1 to Python's int()
    b"label\tlabel\tlabel_notes\tsentence": "label 'label', 0 or 1 expected",
    b"gj04\t1\t\t  ": "empty sentence",
    b"gj\x0004\t1\t\tHe left.": "a NUL or a carriage return within the line",
    b"gj04\t1\t\tHe\rleft.": "a NUL or a carriage return within the line",
    b"gj04\t1\t\tHe \xff left.": "not UTF-8 (byte 0xff)",
    b"gj04\t1\t\tHe \xed\xa0\x80 left.": "not UTF-8 (byte 0xed)",  # half of a surrogate pair
}

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0\ufeff"))
sentences = texts.filter(str.strip)


def read(content):
    return list(corpus.parse_tsv(io.BytesIO(content), "train.tsv"))


def refusal(content):
    with pytest.raises(UserError) as error:
        read(content)
    message = str(error.value)
    assert message.isprintable(), f"more than one line: {message!r}"
    return message


def test_rows_as_cola_has_them():
    rows = read(b"gj04\t1\t\tThey left.\nclc95\t0\t*\t They leaved. \n")
    assert rows == [("gj04", 1, "They left."), ("clc95", 0, "They leaved.")]


def test_a_quotation_mark_is_part_of_its_sentence():
    content = b'ad03\t1\t\t"Go," he said.\nad03\t1\t\t"Never closed.\nad03\t0\t*\tIt\'s 5" ""wide"".\n'
    assert [sentence for _, _, sentence in read(content)] == ['"Go," he said.', '"Never closed.', 'It\'s 5" ""wide"".']


@given(
    st.lists(st.tuples(texts, st.integers(0, 1), texts, sentences), min_size=1),
    st.sampled_from(["", "\ufeff"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_every_valid_row_is_read(rows, mark, line_end, ended):
    lines = [f"{source}\t{label}\t{notes}\t{sentence}" for source, label, notes, sentence in rows]
    text = mark + line_end.join(lines) + line_end * ended
    assert read(text.encode()) == [(source, label, sentence.strip()) for source, label, _, sentence in rows]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_every_malformed_row_is_refused_by_its_line(mark, line_end):
    good = GOOD.replace(b"\n", line_end)
    for before, (row, fault) in enumerate(BAD.items()):
        found = refusal(mark + good * before + row + line_end + good)
        assert found.startswith(f"train.tsv, line {before + 1}: {fault}")
    assert len(BAD) == 13


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_a_file_without_sentences_is_refused(content):
    assert refusal(content) == "train.tsv: no sentences"


def test_a_file_is_read_and_named(tmp_path):
    (tmp_path / "train.tsv").write_bytes(GOOD)
    ((*_, sentence),) = corpus.read_tsv(tmp_path / "train.tsv")
    assert sentence == "Our friends won't buy this analysis."
    (tmp_path / "train.tsv").write_bytes(b"gj04")
    with pytest.raises(UserError, match=r"train\.tsv, line 1: 1 columns") as error:
        list(corpus.read_tsv(tmp_path / "train.tsv"))
    assert str(error.value).startswith(str(tmp_path))
    with pytest.raises(UserError, match=r"none\.tsv is missing: `dvc repro` fetches it"):
        list(corpus.read_tsv(tmp_path / "none.tsv"))


def test_a_folder_has_colas_files_or_a_users_tables(tmp_path):
    cola, user = tmp_path / "cola", tmp_path / "user"
    cola.mkdir()
    user.mkdir()
    (cola / "in_domain_train.tsv").write_bytes(GOOD)
    (cola / "out_of_domain_dev.tsv").write_bytes(b"clc95\t0\t*\tThey leaved.\n")
    source = {"labels": ["unacceptable", "acceptable"]}
    training_rows, test_rows, source_of_corpus = corpus.read_folder(cola, source)
    assert list(training_rows) == [("gj04", 1, "Our friends won't buy this analysis.")]
    assert list(test_rows) == [("clc95", 0, "They leaved.")]
    assert source_of_corpus == source
    (user / "train.csv").write_text("text,label,source\nHello,yes,letters\n")
    (user / "test.tsv").write_text("label\ttext\nno\tBye\n")
    training_rows, test_rows, _ = corpus.read_folder(user, {"labels": ["no", "yes"]})
    assert list(training_rows) == [("letters", 1, "Hello")]
    assert list(test_rows) == [("all", 0, "Bye")]


@given(st.integers(2, 500), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_a_split_is_complete_disjoint_and_repeatable(count, fraction, seed):
    assume((1 - fraction) * count > 1.001)
    training, validation = corpus.split(count, fraction, seed)
    assert sorted([*training, *validation]) == list(range(count))
    assert fraction * count - 0.001 <= len(validation) < fraction * count + 1.001, "training is rounded down"
    again = corpus.split(count, fraction, seed)
    assert np.array_equal(training, again[0])
    assert np.array_equal(validation, again[1])


@given(st.integers(2, 200), st.integers(0, 2**32 - 1), st.data())
def test_fewer_training_sentences_are_among_the_more_and_leave_validation_alone(count, seed, data):
    training, validation = corpus.split(count, 0.5, seed)
    more = data.draw(st.integers(1, len(training)))
    fewer = data.draw(st.integers(1, more))
    splits = [corpus.split(count, 0.5, seed, number) for number in (fewer, more)]
    assert [len(split[0]) for split in splits] == [fewer, more]
    assert set(splits[0][0]) <= set(splits[1][0]) <= set(training)
    assert all(split[1].tolist() == validation.tolist() for split in splits)


def test_another_seed_draws_others():
    drawn = [set(corpus.split(1000, 0.1, seed, 100)[0]) for seed in (42, 43)]
    assert 0 < len(drawn[0] & drawn[1]) < 50


def test_more_training_sentences_than_there_are_is_refused():
    assert len(corpus.split(10, 0.2, 42, 8)[0]) == 8
    with pytest.raises(UserError, match=r"^tokenize.training_sentences=9: there are 8$"):
        corpus.split(10, 0.2, 42, 9)


def test_the_split_of_ten_sentences_with_seed_42():
    training, validation = corpus.split(10, 0.2, 42)  # NumPy's default_rng(42).permutation(10)
    assert training.tolist() == [5, 6, 0, 7, 3, 2, 4, 9]
    assert validation.tolist() == [1, 8]


@pytest.mark.parametrize(
    ("count", "fraction", "sizes"),
    [
        (8551, 0.1, (7695, 856)),  # the tutorial's
        (10, 0.8, (2, 8)),  # 10 * (1 - 0.8) is 1.9999999999999996 in floating point
    ],
)
def test_the_sizes_of_a_split(count, fraction, sizes):
    assert tuple(map(len, corpus.split(count, fraction, 42))) == sizes


@pytest.mark.parametrize(("count", "fraction"), [(0, 0.1), (1, 0.1), (1, 0.9), (2, 0.75)])
def test_a_split_with_an_empty_part_is_refused(count, fraction):
    with pytest.raises(
        UserError, match=f"^{count} sentences cannot be split with tokenize.validation_fraction={fraction}$"
    ):
        corpus.split(count, fraction, 42)


def test_the_real_corpus_is_the_tutorials(raw):
    training_file = list(corpus.read_tsv(raw / corpus.TRAINING_FILE))
    assert len(training_file) == 8551
    assert training_file[0][2] == "Our friends won't buy this analysis, let alone the next one we propose."
    assert training_file[8200][2] == "They kicked themselves"
    assert training_file[4867][1] == 0
    test = list(corpus.read_tsv(raw / corpus.TEST_FILE))
    assert (len(test), sum(label for _, label, _ in test)) == (516, 354)


ROWS = [b"gj04\t1\t\tOur friends won't buy this.", b"cj99\t0\t*\tThe more does Bill smoke.", b"ad03\t1\t\tCaf\xc3\xa9."]
SPOILS = {
    "cut short": lambda text, at, _: text[:at],
    "a byte changed": lambda text, at, byte: text[:at] + bytes([byte]) + text[at + 1 :],
    "bytes inserted": lambda text, at, byte: text[:at] + bytes([byte]) * (byte % 4 + 1) + text[at:],
    "a tab more": lambda text, at, _: text[:at] + b"\t" + text[at:],
    "a tab less": lambda text, at, _: text[:at] + text[at:].replace(b"\t", b"", 1),
    "another line end": lambda text, at, _: text[:at] + text[at:].replace(b"\n", b"\r\n"),
    "NUL": lambda text, at, _: text[:at] + b"\0" + text[at:],
    "a byte order mark": lambda text, *_: b"\xef\xbb\xbf" + text,
    "columns in another order": lambda text, *_: b"\n".join(
        b"\t".join(reversed(row.split(b"\t"))) for row in text.split(b"\n")
    ),
    "rows twice": lambda text, *_: text * 2,
    "another label": lambda text, at, byte: text[:at] + text[at:].replace(b"\t1\t", b"\t%d\t" % byte, 1),
    "one class alone": lambda text, *_: text.replace(b"\t0\t", b"\t1\t"),
    "a long line": lambda text, at, byte: text[:at] + bytes([byte % 128]) * 10_000 + text[at:],
}
spoils = st.tuples(st.sampled_from(sorted(SPOILS)), st.integers(0, 400), st.integers(0, 255))


@settings(max_examples=2500)
@given(st.lists(st.sampled_from(ROWS), min_size=1, max_size=8), st.lists(spoils, min_size=1, max_size=3))
def test_a_spoiled_file_is_read_as_it_stands_or_refused_in_one_line(rows, chosen):
    content = b"\n".join(rows) + b"\n"
    for name, place, byte in chosen:
        content = SPOILS[name](content, place % (len(content) + 1), byte)
    refused = None
    try:
        found = read(content)
    except UserError as error:
        refused = str(error)
    if refused:
        line = re.fullmatch(r"train\.tsv(?:, line (\d+): [^\n]+|: no sentences)", refused)
        assert line, refused
        assert line[1] is None or 1 <= int(line[1]) <= content.count(b"\n") + 1
        return
    lines = content.removeprefix(b"\xef\xbb\xbf").decode().removesuffix("\n").split("\n")
    assert [(source, str(label), sentence) for source, label, sentence in found] == [
        (source, label, sentence.strip()) for source, label, _, sentence in (line.split("\t") for line in lines)
    ]


TABLES_REFUSED = {
    b"": "no sentences",
    b"sentence,label\nHello,1\n": "line 1: no column 'text' in the header (sentence, label)",
    b"text,text,label\nHello,Bye,1\n": "line 1: no column 'text' in the header",
    b"text,label\nHello,1\nBye\n": "line 3: 1 columns, 2 expected (text, label)",
    b"text,label\nHello, you,1\n": "line 2: 3 columns, 2 expected",
    b"text,label\n ,1\n": "line 2: empty text",
    b"text,label\nHello,\n": "line 2: empty label",
    b"text,label\n\nHello,1\n\nBye,\n": "line 5: empty label",
    b'text,label\n"Hello\nyou",1\nBye,\n': "line 4: empty label",
    b'text,label\nHello,1\n"Bye,1\n': "line 3: unexpected end of data; a field with a quotation mark",
    b'text,label\n"Hello" you,1\n': "line 2: ',' expected after '\"'; a field with a quotation mark",
    b"text,label\nHe\0llo,1\n": "line 2: a NUL",
    b"text,label\nHello,1\nBy\xff,1\n": "line 3: not UTF-8 (byte 0xff)",
}


@pytest.mark.parametrize(("content", "fault"), TABLES_REFUSED.items(), ids=range(len(TABLES_REFUSED)))
def test_a_table_that_is_refused(content, fault):
    with pytest.raises(UserError) as refused:
        list(corpus.parse_table(io.BytesIO(content), "mine/train.csv"))
    assert str(refused.value).startswith(("mine/train.csv, " if "line" in fault else "mine/train.csv: ") + fault)
    assert str(refused.value).isprintable()


@given(
    st.lists(st.tuples(texts.filter(str.strip), st.sampled_from(["yes", "no, never", '"perhaps"'])), min_size=1),
    st.sampled_from([",", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_a_table_as_pandas_writes_it_is_read_as_it_was(rows, separator, encoding):
    table = pd.DataFrame(rows, columns=["text", "label"])
    content = table.to_csv(index=False, sep=separator, lineterminator="\n").encode(encoding)
    found = corpus.parse_table(io.BytesIO(content), "train.tsv" if separator == "\t" else "train.csv")
    assert list(found) == [("all", label, text.strip()) for text, label in rows]


def test_labels_are_in_the_order_of_numbers_or_of_the_alphabet(tmp_path):
    def names(*labels):
        (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"Hello,{label}\n" for label in labels))
        return corpus.label_names(tmp_path / "train.csv")

    assert names("10", "9", "-1", "9") == ["-1", "9", "10"]
    assert names("b", "a", "10", "9") == ["10", "9", "a", "b"]
