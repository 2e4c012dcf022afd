"""Users' tables: the forms that are read, and those that are refused, with a remedy that helps."""

import gzip
import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola.core.errors import UserError
from cola.fetch import tables

ROWS = [("all", "1", "Hello."), ("all", "0", "Bye.")]
TABLE = b"text,label\nHello.,1\nBye.,0\n"
TSV = TABLE.replace(b",", b"\t")
LINES = b'{"text": "Hello.", "label": 1}\n{"label": "0", "text": "Bye."}\n'
READ = {  # the rows of ROWS in several forms
    "spaces around": b" text , label \n Hello. , 1 \n Bye. , 0 \n",
    "capitals": b"Text,LABEL\nHello.,1\nBye.,0\n",
    "a byte order mark": b"\xef\xbb\xbf" + TABLE,
    "a second byte order mark": b"\xef\xbb\xbf\xef\xbb\xbf" + TABLE,
    "quoted": b'"text","label"\r\n"Hello.","1"\r\n"Bye.","0"\r\n',
    "an old Mac": TABLE.replace(b"\n", b"\r"),
    "columns more": b",label,text,\n0,1,Hello.,\n1,0,Bye.,\n",
    "empty rows and fields": b"\ntext,label\nHello.,1,,\n\n,\nBye.,0\n , \n,,,\n\x1a",
}


def write_parquet():
    file = io.BytesIO()
    pd.DataFrame({"text": ["Hello.", "Bye."], "label": ["1", "0"]}).to_parquet(file)
    return file.getvalue()


REFUSED = [  # a file, its fault in the message, and the file after the remedy
    ("csv", b"", "no sentences", TABLE),
    (
        "csv",
        b"sentence,label\nHello.,1\n",
        "line 1: no column 'text' in the header (sentence, label): the header",
        TABLE,
    ),
    ("csv", b"text,Label,label\nHello.,1,1\n", "line 1: two columns are called label: remove or rename", TABLE),
    ("csv", TABLE.replace(b",", b";"), "line 1: no column 'text' in the header (text;label): separate the", TABLE),
    ("csv", TSV, "line 1: no column 'text' in the header (text\tlabel): name the file .tsv", TSV, "tsv"),
    ("tsv", TABLE, "line 1: no column 'text' in the header (text,label): name the file .csv", TABLE, "csv"),
    ("csv", b"sep=,\r\n" + TABLE, "line 1: no column 'text' in the header (sep=, ): remove this line", TABLE),
    ("csv", b"version https://host/git-lfs/v1\noid 1\n", "line 1: no column 'text' in the header (version", TABLE),
    ("csv", write_parquet(), "line 1: no column 'text' in the header (PAR1", write_parquet(), "parquet"),
    ("csv", gzip.compress(TABLE, mtime=0), "line 1: no column 'text' in the header (\udc8b", TABLE),
    (
        "csv",
        b"PK\x03\x04, a spreadsheet",
        "line 1: no column 'text' in the header (PK\x03\x04, a spreadsheet): export",
        TABLE,
    ),
    ("csv", TABLE.decode().encode("utf-16"), "line 1: no column 'text' in the header (\udcff", TABLE),
    ("csv", TABLE.decode().encode("utf-16-le"), "line 2: '\\x00' is not text: remove it, or save", TABLE),
    ("csv", b"text,label\nHello.,1\nCaf\xe9.,0\n", "line 3: '\\udce9' is not UTF-8: save the", TABLE),
    ("csv", b"text,label\nHello, you,1\n", "line 2: 3 columns, 2 expected (text, label): a field with a comma", TABLE),
    ("csv", b'"text" "label"\n"1" "Hello." "1"\n', "line 1: ',' expected after '\"'; separate the columns by", TABLE),
    ("csv", b'"text";"label"\n"Hello.";"1"\n', "line 1: ',' expected after '\"'; separate the columns by", TABLE),
    ("csv", b'"text","label"\n"1","Hello.","1"\n', "line 2: R's names of rows: write the table with row.names", TABLE),
    ("csv", b"id,text,label\n1,Hello, you,1\n", "line 2: 4 columns, 3 expected (id, text, label): a field with", TABLE),
    ("csv", TABLE + b"<<<<<<< HEAD\nBye!,0\n", "line 4: keep one side of the merge conflict", TABLE),
    ("csv", b"<<<<<<< HEAD\n" + TABLE, "line 1: no column 'text' in the header (<<<<<<< HEAD): keep one side", TABLE),
    ("csv", b"text,label\nHello.,1\nBye\n", "line 3: 1 columns, 2 expected", TABLE),
    ("csv", b"source,text,label\na,Hello.,1\nBye.,0\n", "line 3: 2 columns, 3 expected", TABLE),
    ("csv", b'text,label\nHello.,1\n"Bye.,0\n', "line 3: unexpected end of data; a field with a comma", TABLE),
    (
        "tsv",
        b'text\tlabel\n"I was late.\t1\nand it ended."\t0\n',
        "line 2: a quotation mark begins a field that",
        TSV,
    ),
    ("csv", b"text,label\n ,1\n", "line 2: empty text: fill it in, or remove the row", TABLE),
    ("csv", "text,label\n\u200b\u2060\u3164,1\n".encode(), "line 2: empty text", TABLE),
    ("csv", b'text,label\n"Hello\nyou.",1\n\nBye.,\n', "line 5: empty label", TABLE),
    ("csv", TABLE + TABLE, "line 4: the header occurs a second time: remove this line", TABLE),
    ("csv", b"label,text\n1,Hello.\n\xef\xbb\xbflabel,text\n", "line 3: the header occurs a second time", TABLE),
    ("csv", b"text,label\n%s,1\n" % (b"a" * (2**22 + 1)), "line 2: 4,194,305 characters, 4,194,304 at most", TABLE),
    ("jsonl", b'{"label": 1}\n', "line 1: no column 'text' in the header (label)", LINES),
    ("jsonl", LINES.decode().encode("utf-16"), "line 1: not UTF-8: save the table as UTF-8", LINES),
    ("jsonl", b'{"text": "Hello.", "label": 1\n', "line 1: not a JSON object: write an object in every", LINES),
    ("jsonl", b'[{"text": "Hello.", "label": 1}]\n', "line 1: not a JSON object: write an object in every", LINES),
    ("jsonl", LINES + b'{"text": ["Hello."], "label": 1}\n', "line 3: text, label or source is a list or", LINES),
    ("jsonl", b'{"text": "Hello.", "label": {"a": 1}}\n', "line 1: text, label or source is a list or an", LINES),
    ("jsonl", LINES + b'{"text": "Hello."}\n', "line 3: empty label", LINES),
    ("jsonl", LINES + b'{"text": "Hello.", "label": NaN}\n', "line 3: empty label", LINES),
    ("jsonl", LINES + b'{"text": "Hello.", "label": 1, "source": "a"}\n', "line 3: source is not in the first", LINES),
    ("jsonl", LINES + b'{"text": "\\ud83d", "label": 1}\n', "line 3: '\\ud83d' is not text: remove it", LINES),
    ("jsonl", LINES + b'{"text": "Caf\xe9", "label": 1}\n', "line 3: '\\udce9' is not UTF-8", LINES),
    ("parquet", b"PAR1", "cannot be read: Parquet file size is 4 bytes", LINES, "jsonl"),
]


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """read(suffix, content): the rows of a user's table, without where they stand."""
    folder = tmp_path_factory.mktemp("mine")

    def read(suffix, content):
        (folder / f"train.{suffix}").write_bytes(content)
        return [row for _, row in tables.read_table(folder / f"train.{suffix}")]

    return read


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_a_table_that_is_read(read, content):
    assert read("csv", content) == ROWS
    assert read("tsv", content.replace(b",", b"\t")) == ROWS


@pytest.mark.parametrize(
    ("content", "remedy"),
    [(write_parquet(), "name the file .parquet"), (gzip.compress(TABLE, mtime=0), "unpack the file")],
    ids=["Parquet", "gzip"],
)
def test_a_binary_file_called_csv_gets_its_own_remedy(read, content, remedy):
    with pytest.raises(UserError, match=rf": {remedy}$"):
        read("csv", content)


@pytest.mark.parametrize("case", REFUSED, ids=range(len(REFUSED)))
def test_a_table_that_is_refused_and_its_remedy(read, case):
    suffix, content, fault, remedied, remedied_suffix = (*case, case[0])[:5]
    with pytest.raises(UserError, match=r"^/[^\n]*$") as refused:  # one line, with the whole path
        read(suffix, content)
    assert str(refused.value).partition(f"train.{suffix}")[2].lstrip(":, ").startswith(fault), refused.value
    assert read(remedied_suffix, remedied) == ROWS


def test_fields_by_hand(read):
    content = 'text,label,source\n"Bye, all",no, letters \n"two\r\nli""nes\rmore",NA,\n'
    assert read("csv", content.encode()) == [("letters", "no", "Bye, all"), ("none", "NA", 'two\nli"nes\nmore')]
    assert read("csv", b"n,text,label,source\n1,Hello.,1\n") == [("none", "1", "Hello.")], "as Excel writes it"
    assert read("csv", b'text,label\n"Dear Sir,\nplease come, now",1\nHello.,0\n')[0].sentence.count("\n") == 1
    assert read("csv", b"text,label\n%s,1\n" % (b"a" * 2**22))[0].sentence == "a" * 2**22


def test_json_and_parquet(read, tmp_path):
    assert read("jsonl", b"\xef\xbb\xbf" + LINES + b"\n") == ROWS
    more = b'{"n": [1, {"text": "no"}], "Label": 1.0, "text": " Hello.\\r\\nYou. ", "source": null}\n'
    assert read("jsonl", more + b'{"text": "Bye.", "Label": true, "source": "a"}') == [
        ("none", "1.0", "Hello.\nYou."),
        ("a", "true", "Bye."),
    ]
    frame = pd.DataFrame({"n": [[1], [2]], "text": ["Hello.", "Bye."], "Label": [1, 0]})
    for table in (frame, frame.astype({"Label": "category"}), frame.set_index("n")):
        table.to_parquet(tmp_path / "train.parquet")
        assert read("parquet", (tmp_path / "train.parquet").read_bytes()) == ROWS
    assert read("jsonl", b'{"text": "Hello.", "label": Infinity}\n') == [("all", "Infinity", "Hello.")]
    for bad, fault in (
        ({"text": [["a"], ["b"]]}, "cannot be read: Unsupported cast"),
        ({"text": [None, "b"]}, "row 1: empty text"),
    ):
        frame.assign(**bad).to_parquet(tmp_path / "train.parquet")
        with pytest.raises(UserError, match=fault):
            list(tables.read_table(tmp_path / "train.parquet"))
    table = pa.table({"text": ["Hello.", "Bye."], "label": [1.0, float("nan")]})  # pandas would write null for NaN
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(UserError, match="row 2: empty label"):
        list(tables.read_table(tmp_path / "train.parquet"))
    pq.write_table(pa.table({"": ["Hello."]}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet: no sentences$"):
        list(tables.read_table(tmp_path / "train.parquet"))
    (tmp_path / "several.parquet").mkdir()  # as Spark writes a table
    with pytest.raises(UserError, match=r"several\.parquet' is a directory; write it again, as one file"):
        list(tables.read_table(tmp_path / "several.parquet"))
    frame.rename(columns={"text": "sentence"}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"no column 'text' in the header \(n, sentence, Label\): the header must name"):
        list(tables.read_table(tmp_path / "train.parquet"))


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")).filter(tables.is_visible),
            st.sampled_from(["yes", "no, never", '"perhaps"']),
        ),
        min_size=1,
    ),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_a_table_as_pandas_writes_it_is_read_as_it_was(read, rows, encoding):
    frame = pd.DataFrame(rows, columns=["text", "label"])
    expected = [("all", label, text.strip()) for text, label in rows]
    for suffix, separator in (("csv", ","), ("tsv", "\t")):
        assert read(suffix, frame.to_csv(index=False, sep=separator).encode(encoding)) == expected
    assert read("jsonl", frame.to_json(orient="records", lines=True).encode()) == expected


def test_columns_that_are_not_read_are_named(read, capsys, tmp_path):
    """Prodigy's answer may say that a label is wrong."""
    read("csv", b",Answer,label,text\n0,reject,1,Hello.\n")
    read("jsonl", b'{"text": "Hello.", "label": 1, "answer": "reject"}\n')
    pd.DataFrame({"text": ["Hello."], "answer": ["reject"], "label": [1]}).to_parquet(tmp_path / "train.parquet")
    read("parquet", (tmp_path / "train.parquet").read_bytes())
    note = "note: columns of train.{} that are not read: {}\n"
    expected = [note.format(*words) for words in (("csv", "Answer"), ("jsonl", "answer"), ("parquet", "answer"))]
    assert capsys.readouterr().out == "".join(expected)
    read("csv", TABLE)
    assert capsys.readouterr().out == ""


def test_rows_as_cola_has_them(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_bytes(b'gj04\t1\t\tThey left.\r\nclc95\t0\t*\t They leaved. \nad03\t1\t\t"Never ""closed.\n')
    assert [row for _, row in tables.read_cola(path)] == [
        ("gj04", "acceptable", "They left."),
        ("clc95", "unacceptable", "They leaved."),
        ("ad03", "acceptable", '"Never ""closed.'),
    ]
    for row, fault in (("gj04\t2\t\tHe left.", "label '2', 0 or 1 expected"), ("gj04\t1\t", "3 columns, 4 expected")):
        path.write_text(f"gj04\t1\t\tThey left.\n{row}\n")
        with pytest.raises(UserError, match=f"train.tsv, line 2: {fault}"):
            list(tables.read_cola(path))


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], "has nothing"),
        (["Train.CSV"], "has Train.CSV: rename"),
        (["train.csv.gz"], "has train.csv.gz: rename, unpack"),
        (["train.csv", "train.jsonl"], "has train.csv, train.jsonl: rename, unpack, remove"),
    ],
)
def test_a_folder_must_have_exactly_one_table_of_a_name(tmp_path, present, message):
    for name in present:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"exactly one of train.csv, train.tsv, .*, but {message}"):
        tables.find_table(tmp_path, "train")
    for name in present:
        (tmp_path / name).unlink()
    (tmp_path / "train.parquet").touch()
    assert tables.find_table(tmp_path, "train") == tmp_path / "train.parquet"


def test_texts_that_look_the_same_are_normalized_to_one():
    assert tables.normalize("ne\u0301gatif") == tables.normalize("n\xe9gatif")
    assert tables.normalize("\ufeffTRUE\u200b") == tables.normalize("True")
    assert tables.normalize("a\xa0 b") == tables.normalize("\uff21 b") == tables.normalize("a\ufe0f\u00ad b")
    assert tables.normalize("\u22121") == tables.normalize("-1")
    assert tables.normalize("a b") != tables.normalize("ab")
