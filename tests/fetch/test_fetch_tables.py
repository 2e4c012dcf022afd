"""CoLA's layout and a user's tables: what is read, what is refused, and the plain form that is written."""

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cola.core.errors import UserError
from cola.fetch import tables
from cola.fetch.tables import Row

GOOD = b"gj04\t1\t\tOur friends won't buy this analysis.\n"
COLA_REFUSED = {
    b"gj04\t1\t": "3 columns, 4 expected (source, label, label_notes, text)",
    b"gj04\t1\t\tHe left.\t": "5 columns, 4 expected",
    b"gj04\t\t\tHe left.": "empty label",
    b"gj04\t2\t\tHe left.": "label '2' is not among the training labels (0, 1)",
    b"gj04\t1.0\t\tHe left.": "label '1.0' is not",
    "gj04\t\u0661\t\tHe left.".encode(): "label '\u0661' is not",  # a 1 to Python's int()
    b"label\tlabel\tlabel_notes\tsentence": "label 'label' is not",
    b"gj04\t1\t\t  ": "empty text",
    b"gj\x0004\t1\t\tHe left.": "a NUL",
    b"gj04\t1\t\tHe \xff left.": "not UTF-8 (byte 0xff)",
    b"gj04\t1\t\tHe \xed\xa0\x80 left.": "not UTF-8 (byte 0xed)",  # half of a surrogate pair
}
TABLES_REFUSED = {
    b"": "no sentences",
    b"text,label\n": "no sentences",
    b"sentence,label\nHello,1\n": "line 1: no column 'text' in the header (sentence, label)",
    b"text,text,label\nHello,Bye,1\n": "line 1: no column 'text' in the header",
    b"text,source\nHello,Bye\n": "line 1: no column 'label' in the header",
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
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0\ufeff"))
sentences = texts.filter(str.strip)


@pytest.fixture(scope="module")
def read_cola(tmp_path_factory):
    """read_cola(content): the rows of a file of CoLA's layout."""
    path = tmp_path_factory.mktemp("cola") / "train.tsv"

    def read_cola(content):
        path.write_bytes(content)
        return list(tables.read_cola(path))

    return read_cola


@pytest.fixture(scope="module")
def read_table(tmp_path_factory):
    """read_table(content): the rows of a user's table."""
    folder = tmp_path_factory.mktemp("mine")

    def read_table(content, name="train.csv", labels=None):
        (folder / name).write_bytes(content)
        return list(tables.read_table(folder / name, labels))

    return read_table


def refusal(read, content):
    """The one line with which a content is refused, from the file's name on."""
    with pytest.raises(UserError) as error:
        read(content)
    message = str(error.value)
    assert message.isprintable(), f"more than one line: {message!r}"
    assert message.startswith("/"), "the whole path is named"
    return re.sub(r"^/.*/(?=train\.)", "", message)


def test_rows_as_cola_has_them(read_cola):
    rows = read_cola(b"gj04\t1\t\tThey left.\nclc95\t0\t*\t They leaved. \n")
    assert rows == [("gj04", "acceptable", "They left."), ("clc95", "unacceptable", "They leaved.")]


def test_a_quotation_mark_of_cola_is_part_of_its_sentence(read_cola):
    content = b'ad03\t1\t\t"Go," he said.\nad03\t1\t\t"Never closed.\nad03\t0\t*\tIt\'s 5" ""wide"".\n'
    assert [row.sentence for row in read_cola(content)] == [
        '"Go," he said.',
        '"Never closed.',
        'It\'s 5" ""wide"".',
    ]


@given(
    st.lists(st.tuples(texts, st.sampled_from("01"), texts, sentences), min_size=1),
    st.sampled_from(["", "\ufeff"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_every_valid_row_of_cola_is_read(read_cola, rows, mark, line_end, ended):
    text = mark + line_end.join("\t".join(row) for row in rows) + line_end * ended
    names = {"0": "unacceptable", "1": "acceptable"}
    assert read_cola(text.encode()) == [
        (source.strip(), names[label], sentence.strip()) for source, label, _, sentence in rows
    ]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_every_malformed_row_of_cola_is_refused_by_its_line(read_cola, mark, line_end):
    good = GOOD.replace(b"\n", line_end)
    for before, (row, fault) in enumerate(COLA_REFUSED.items()):
        message = refusal(read_cola, mark + good * before + row + line_end + good)
        assert message.startswith(f"train.tsv, line {before + 1}: {fault}")
    assert len(COLA_REFUSED) == 11


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n"])
def test_a_file_without_sentences_is_refused(read_cola, content):
    assert refusal(read_cola, content) == "train.tsv: no sentences"


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


@settings(max_examples=500)
@given(st.lists(st.sampled_from(ROWS), min_size=1, max_size=8), st.lists(spoils, min_size=1, max_size=3))
def test_a_spoiled_file_is_read_as_it_stands_or_refused_in_one_line(read_cola, rows, chosen):
    content = b"\n".join(rows) + b"\n"
    for name, position, byte in chosen:
        content = SPOILS[name](content, position % (len(content) + 1), byte)
    try:
        read = read_cola(content)
    except UserError:
        message = re.fullmatch(r"train\.tsv(?:, line (\d+): [^\n]+|: no sentences)", refusal(read_cola, content))
        assert message
        assert message[1] is None or 1 <= int(message[1]) <= content.count(b"\n") + content.count(b"\r") + 1
        return
    lines = [line.split("\t") for line in re.split("[\r\n]+", content.decode("utf-8-sig")) if line]
    names = {"0": "unacceptable", "1": "acceptable"}
    assert read == [(source.strip(), names[label.strip()], sentence.strip()) for source, label, _, sentence in lines]


def test_rows_of_a_users_table_by_hand(read_table):
    assert read_table(b'text,label,source\n"Bye, all",no, letters \n') == [("letters", "no", "Bye, all")]
    assert read_table(b"label\tnumber\ttext\nno\t7\tBye\n", "train.tsv") == [("all", "no", "Bye")]


@pytest.mark.parametrize(("content", "fault"), TABLES_REFUSED.items(), ids=range(len(TABLES_REFUSED)))
def test_a_table_that_is_refused(read_table, content, fault):
    assert refusal(read_table, content).startswith(("train.csv, " if "line" in fault else "train.csv: ") + fault)


def test_a_label_of_the_test_that_training_does_not_have_is_refused(read_table):
    content = b"text,label\nHello,yes\nBye,Yes\n"
    assert len(read_table(content)) == 2
    with pytest.raises(UserError, match=r"line 3: label 'Yes' is not among the training labels \(no, yes\)$"):
        read_table(content, labels=["no", "yes"])


@given(
    st.lists(st.tuples(sentences, st.sampled_from(["yes", "no, never", '"perhaps"'])), min_size=1),
    st.sampled_from([",", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_a_table_as_pandas_writes_it_is_read_as_it_was(read_table, rows, separator, encoding):
    frame = pd.DataFrame(rows, columns=["text", "label"])
    content = frame.to_csv(index=False, sep=separator, lineterminator="\n").encode(encoding)
    read = read_table(content, "train.tsv" if separator == "\t" else "train.csv")
    assert read == [("all", label, text.strip()) for text, label in rows]


def test_a_user_has_one_table_of_each_name(tmp_path):
    with pytest.raises(UserError, match=r"must have train\.csv or train\.tsv$"):
        tables.find_table(tmp_path, "train")
    (tmp_path / "train.tsv").touch()
    assert tables.find_table(tmp_path, "train") == tmp_path / "train.tsv"
    (tmp_path / "train.csv").touch()
    with pytest.raises(UserError, match=r"must have train\.csv or train\.tsv, not both$"):
        tables.find_table(tmp_path, "train")


def test_the_plain_form_has_a_header_and_quotes_what_needs_them(tmp_path):
    rows = [Row("gj04", "yes", 'He said "go", twice.'), Row("", "no", "two\rlines")]
    assert tables.write(tmp_path / "train.csv", rows) == {"no", "yes"}
    assert (tmp_path / "train.csv").read_bytes() == (
        b'sentence_source,label,sentence\r\ngj04,yes,"He said ""go"", twice."\r\n,no,"two\rlines"\r\n'
    )


def test_labels_are_in_the_order_of_numbers_or_of_the_alphabet(tmp_path):
    assert tables.sort_labels({"10", "9", "-1"}, tmp_path) == ["-1", "9", "10"]
    assert tables.sort_labels({"b", "a", "10", "9"}, tmp_path) == ["10", "9", "a", "b"]


def test_a_corpus_has_2_to_100_labels(tmp_path):
    hundred = {str(number) for number in range(100)}
    assert tables.sort_labels(hundred, tmp_path) == [str(number) for number in range(100)]
    for labels in ({"a"}, hundred | {"a"}):
        with pytest.raises(UserError, match=f"^{tmp_path}: {len(labels)} different labels, 2 to 100 expected$"):
            tables.sort_labels(labels, tmp_path)
