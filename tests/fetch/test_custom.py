"""A corpus from a user's folder."""

import re
import shutil
from pathlib import Path

import pytest
from project import copy_project

from cola.core import files
from cola.core.errors import UserError
from cola.fetch import download


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """corpora/mine, in an empty project that this process is in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    folder = Path("corpora/mine")
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text('text,label\nHello,greeting\n"Bye, all",farewell\n')
    (folder / "test.csv").write_text("label,number,text\nfarewell,1,See you\n")
    Path("raw").mkdir()
    return folder


@pytest.mark.parametrize("name", ["corpora/mine", "./corpora/mine/", "{root}/corpora/mine"])
def test_a_corpus_is_written_in_one_form_and_its_source_names_the_users_files(folder, tmp_path, name):
    source = download.fetch_corpus(name.format(root=tmp_path), Path("raw"))
    assert source["name"] == "mine"
    assert source["labels"] == ["farewell", "greeting"]
    assert source["files"] == {name: files.hash_file(folder / name) for name in ("test.csv", "train.csv")}
    assert {path.name: path.read_text().splitlines() for path in Path("raw").iterdir()} == {
        "train.csv": ["sentence_source,label,sentence", "all,greeting,Hello", 'all,farewell,"Bye, all"'],
        "test.csv": ["sentence_source,label,sentence", "all,farewell,See you"],
    }


def test_a_table_for_validation_is_named_because_it_is_not_read(folder, capsys):
    download.fetch_corpus("corpora/mine", Path("raw"))
    assert "validates" not in capsys.readouterr().out
    for name in ("validation.csv", "dev.tsv", "valid.jsonl", "more.csv"):
        (folder / name).touch()
    download.fetch_corpus("corpora/mine", Path("raw"))
    note = "note: dev.tsv, valid.jsonl, validation.csv is not read: a part of train.csv validates the model instead"
    assert note in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("colla", "fetch.corpus: colla is neither cola nor minimal_pairs nor a folder in corpora/, where"),
        ("{root}/elsewhere", "nor a folder in corpora/, where DVC notices a change: copy your tables to"),
        ("~nobody/corpora/x", "fetch.corpus: ~nobody/corpora/x is neither"),
        ("corpora/../corpora2", "fetch.corpus: corpora/../corpora2 is neither"),
        (
            "corpora/nowhere",
            "fetch.corpus: corpora/nowhere is no folder in this project: make it, with train.csv and test.csv",
        ),
        ("corpora/mine/train.csv", "fetch.corpus: corpora/mine/train.csv is no folder"),
        ("corpora/.mine", "fetch.corpus: corpora/.mine is hidden"),
        ("corpora/link", "fetch.corpus: corpora/link is a link, which DVC does not follow: copy the folder instead"),
        ("corpora/mine/link", "fetch.corpus: corpora/mine/link is a link, which DVC does not follow: copy"),
        ("corpora/" + "x" * 300, "x cannot be read: File name too long"),
    ],
)
def test_a_folder_in_which_dvc_would_not_see_a_change_is_refused(folder, tmp_path, name, fault):
    shutil.copytree(folder, "elsewhere")
    for link in ("corpora/link", "corpora/mine/link"):
        Path(link).symlink_to(tmp_path / "elsewhere")
    shutil.copytree("elsewhere", "corpora/.mine")
    with pytest.raises(UserError, match=re.escape(fault)), files.atomic_folder(Path("data/raw")) as partial:
        download.fetch_corpus(name.format(root=tmp_path), partial)
    if "link" in name:
        Path(name).unlink()
    remedy = name if "link" in name else "corpora/copy"
    shutil.copytree("elsewhere", remedy)
    assert download.fetch_corpus(remedy, Path("raw"))["labels"] == ["farewell", "greeting"]


def test_a_corpus_that_git_does_not_track_is_refused_in_a_copy_of_the_project(folder, tmp_path, monkeypatch):
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for _ in ("no folder", "no file in it"):
        with pytest.raises(
            UserError, match=r"git does not track corpora/mine.*: run `git add corpora/mine && git commit"
        ):
            download.fetch_corpus("corpora/mine", tmp_path / "raw")
        Path("corpora/mine").mkdir(parents=True, exist_ok=True)
    shutil.copytree(tmp_path / folder, folder, dirs_exist_ok=True)  # as `git add` makes DVC do
    for name in ("corpora/mine", str(tmp_path / "corpora/mine")):
        assert download.fetch_corpus(name, tmp_path / "raw")["name"] == "mine"


def test_a_table_that_cannot_be_read_is_named(folder):
    (folder / "train.csv").unlink()
    (folder / "train.csv").mkdir()
    fault = r"^corpora/mine/train.csv cannot be read: Is a directory; fix that and run `dvc repro`$"
    with pytest.raises(UserError, match=fault):
        download.fetch_corpus("corpora/mine", Path("raw"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "remedy",
    [
        f"{add} && git commit -m corpus"
        for add in ("git add 'corpora/my é'", "dvc add 'corpora/my é' && git add corpora")
    ],
)
def test_an_experiment_in_a_copy_of_the_project_sees_each_change_in_a_corpus(tmp_path, run, remedy):
    project = copy_project(tmp_path, fetch__corpus="corpora/my é")
    shutil.copytree(project / "corpora/example", project / "corpora/my é")
    experiment = ("dvc", "exp", "run", "--temp", "fetch@corpus")
    assert "training: 66 sentences" in run(project, "dvc", "repro", "fetch@corpus")
    assert f"`{remedy}`" in run(project, *experiment, fails=True)
    run(project, "bash", "-c", remedy)
    run(project, *experiment)
    with (project / "corpora/my é/train.csv").open("a") as file:
        file.write("Sing louder!,request\n")
    assert "training: 67 sentences" in run(project, *experiment)
