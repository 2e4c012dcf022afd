"""Names mean commits; git's and dvc's errors are one line."""

import shutil

import pytest

from cola.core import files, paths
from cola.core.errors import UserError
from cola.report import revision


def git(*arguments):
    return revision.run_program("git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments).strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The commits, the newest first, of a repository. The working directory is a folder in it."""
    folder = tmp_path / "larger" / "project"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    git("init", "--quiet", "..")
    for number in (1, 2):
        (folder / "file").write_text(f"{number}")
        (folder.parent / "elsewhere").write_text("1")
        git("add", "--all", "..")
        git("commit", "--quiet", "--message", f"{number}")
    return git("log", "--format=%H").split()


def save_experiment(baseline, name, commit):
    git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", commit)


def test_a_name_means_an_experiment_of_this_commit_first(repository):
    last, first = repository
    experiment = git("commit-tree", "HEAD^{tree}", "-m", "experiment")
    older = git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "experiment of the first commit")
    save_experiment(first, "demo", older)
    git("tag", "demo", first)
    git("branch", "mine", first)
    assert revision.find_commit("demo") == older
    save_experiment(last, "demo", experiment)
    assert [revision.find_commit(name) for name in ("demo", "mine", first[:12])] == [experiment, first, first]
    assert revision.list_experiments(last) == {"demo": experiment}
    with pytest.raises(
        UserError, match=r"^demo2 is neither an experiment nor a commit: `dvc exp list --all-commits` names"
    ):
        revision.find_commit("demo2")


def test_experiments_with_different_files_are_refused(repository):
    commits = {}
    for name, digest in (("pretrained", "a"), ("random weights", "a"), ("new", "b")):
        files.write_json(paths.FINETUNED / "source.json", {"corpus": {"files": digest}, "encoder": {"name": name}})
        git("add", "--all")
        git("commit", "--quiet", "--message", name)
        commits[name] = git("rev-parse", "HEAD")
    same_files = {name: commits[name] for name in ("pretrained", "random weights")}
    assert revision.read_source(same_files) == {"corpus": {"files": "a"}, "encoder": {"name": "pretrained"}}
    with pytest.raises(UserError, match=r"^new and pretrained were trained with different files .* run this again$"):
        revision.read_source(commits)


def test_only_the_projects_files_count_as_changed(repository, tmp_path):
    (tmp_path / "larger/elsewhere").write_text("2")
    (tmp_path / "larger/project/new").write_text("not tracked")
    assert revision.describe_commit() == repository[0]
    (tmp_path / "larger/project/file").write_text("3")
    assert revision.list_changes() == ["file"]
    assert revision.describe_commit() == f"{repository[0]} with uncommitted changes"


def check_unknown(message, capsys):
    """Check that the workspace's commit is unknown, with this message in one line."""
    with pytest.raises(UserError, match=rf"^git rev-parse [^\n]*{message}[^\n]*$|^{message}$") as error:
        revision.read_commit()
    assert revision.describe_commit() == "none"
    assert capsys.readouterr().err == f"warning: the commit is unknown: {error.value}\n"


def test_git_refuses_in_one_line_with_its_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    check_unknown("fatal: not a git repository", capsys)
    git("init", "--quiet")
    check_unknown("this repository has no commit: git add --all && git commit", capsys)
    monkeypatch.setattr(revision, "make_environment", lambda: {"PATH": str(tmp_path)})
    message = "fatal: detected dubious ownership in '/x'\\n\\n\\tgit config /x\\n"
    (tmp_path / "git").write_text(f'#!/bin/sh\nprintf "{message}" >&2; exit 128\n')
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    check_unknown("fatal: detected dubious ownership in '/x' git config /x", capsys)
    (tmp_path / "git").unlink()
    check_unknown("git is not installed", capsys)


def test_dvc_is_this_pythons_and_refuses_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert not shutil.which("dvc"), "another dvc is on the PATH"
    with pytest.raises(UserError, match=r"^dvc exp list: you are not inside of a DVC repository [^\n]*$"):
        revision.run_program("dvc", "exp", "list")
