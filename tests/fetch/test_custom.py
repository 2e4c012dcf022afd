"""A corpus and an encoder from a user's own folder."""

import json
import re

import pytest
import tiny

from cola.core import files
from cola.core.errors import UserError
from cola.fetch import custom, download


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/train.csv").write_text('text,label\nHello,greeting\n"Bye, all",farewell\n')
    (tmp_path / "mine/test.csv").write_text("label,number,text\nfarewell,1,See you\n")
    (tmp_path / "raw").mkdir()
    return tmp_path / "mine"


def test_a_corpus_is_written_in_one_form_and_its_source_names_the_users_files(folder, tmp_path, capsys):
    source = download.corpus(str(folder), tmp_path / "raw")
    assert source["name"] == "mine"
    assert source["labels"] == ["farewell", "greeting"]
    assert source["files"] == {name: files.sha256(folder / name) for name in ("test.csv", "train.csv")}
    assert "`dvc repro --force --downstream fetch@corpus`" in capsys.readouterr().out
    written = {path.name: path.read_text().splitlines() for path in (tmp_path / "raw").iterdir()}
    assert written == {
        "train.csv": ["sentence_source,label,sentence", "all,greeting,Hello", 'all,farewell,"Bye, all"'],
        "test.csv": ["sentence_source,label,sentence", "all,farewell,See you"],
    }


def test_a_folder_in_corpora_is_watched_by_dvc(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "corpora").mkdir()
    folder.rename(tmp_path / "corpora/mine")
    monkeypatch.chdir(tmp_path)
    assert download.corpus("corpora/mine", tmp_path / "raw")["name"] == "mine"
    assert capsys.readouterr().out == ""


def test_an_experiment_finds_what_its_copy_of_the_project_lacks(folder, tmp_path, monkeypatch):
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert download.corpus("mine", tmp_path / "raw")["name"] == "mine"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda mine: (mine / "test.csv").unlink(), "must have test.csv or test.tsv"),
        (lambda mine: (mine / "train.tsv").touch(), "must have train.csv or train.tsv, not both"),
        (lambda mine: (mine / "train.csv").write_text("text,label\na,b\nc,b\n"), "1 different labels, 2 to 100"),
        (
            lambda mine: (mine / "train.csv").write_text("text,label\n" + "".join(f"a,{n}\n" for n in range(101))),
            "101 different labels, 2 to 100",
        ),
        (
            lambda mine: (mine / "test.csv").write_text("text,label\na,greeting\nb,Greeting\n"),
            "test.csv, line 3: label 'Greeting' is not among the training labels (farewell, greeting)",
        ),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused_in_one_line(folder, tmp_path, change, fault):
    change(folder)
    with pytest.raises(UserError, match=re.escape(fault)) as refused:
        download.corpus(str(folder), tmp_path / "raw")
    assert str(refused.value).startswith(str(folder))
    assert "\n" not in str(refused.value)


def test_a_name_that_is_neither_known_nor_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^fetch.corpus: colla is neither known nor a folder"):
        download.corpus("colla", tmp_path)
    with pytest.raises(UserError, match=r"^fetch.encoder: ./nowhere is neither known nor a folder"):
        download.encoder("./nowhere", None, tmp_path)


def test_an_encoder_is_copied_with_its_tokenizer_and_nothing_else(tmp_path):
    for name in ("mine", "pretrained"):
        (tmp_path / name).mkdir()
    tiny.encoder(tmp_path / "mine")
    (tmp_path / "mine/notes.txt").touch()
    (tmp_path / "mine/pytorch_model.bin").touch()
    source = download.encoder(str(tmp_path / "mine"), None, tmp_path / "pretrained")
    assert (source["name"], source["revision"]) == ("mine", None)
    hashes = {path.name: files.sha256(path) for path in (tmp_path / "pretrained").iterdir()}
    assert hashes == source["files"]
    assert hashes.keys() == {"config.json", "model.safetensors", "vocab.txt"}
    assert hashes["model.safetensors"] == files.sha256(tmp_path / "mine/model.safetensors")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_encoder_that_lacks_a_file_is_refused(tmp_path, name):
    (tmp_path / "mine").mkdir()
    tiny.encoder(tmp_path / "mine")
    (tmp_path / "mine" / name).unlink()
    with pytest.raises(UserError, match=f"has no {name} "):
        custom.copy_encoder(str(tmp_path / "mine"), tmp_path)


@pytest.mark.parametrize("config", [{"auto_map": {"AutoModel": "own.Model"}}, [1], None])
def test_an_encoder_whose_config_names_code_is_refused(tmp_path, config):
    (tmp_path / "mine").mkdir()
    tiny.encoder(tmp_path / "mine")
    (tmp_path / "mine/config.json").write_text(json.dumps(config) if config is not None else "{")
    with pytest.raises(UserError, match=r"auto_map, code of its own|is not a JSON object"):
        custom.copy_encoder(str(tmp_path / "mine"), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
