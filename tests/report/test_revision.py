"""What git and dvc say, or refuse, in one line; which commit a name means."""

import subprocess

import pytest

from cola.core import files, paths
from cola.core.errors import UserError
from cola.report import revision


def git(*arguments):
    return revision.run_program("git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments).strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder of a repository with two commits, in which this process is. Returns the commits, the last one first."""
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


def test_a_name_is_first_that_of_an_experiment_of_this_commit(repository):
    last, first = repository
    experiment = git("commit-tree", "HEAD^{tree}", "-m", "experiment")
    other = git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "experiment of the first commit")
    save_experiment(first, "demo", other)
    git("tag", "demo", first)
    git("branch", "mine", first)
    assert revision.find_commit("demo") == other
    save_experiment(last, "demo", experiment)
    assert [revision.find_commit(name) for name in ("demo", "mine", first[:12])] == [experiment, first, first]
    assert revision.list_experiments(last) == {"demo": experiment}
    with pytest.raises(UserError, match=r"^demo2 is no experiment and no commit; `dvc exp list --all-commits` names"):
        revision.find_commit("demo2")


def test_experiments_of_different_files_are_not_taken_together(repository):
    """As on a cluster whose machines have a corpus each. The encoder with random weights has the same files."""
    commits = {}
    for name, digest in (("pretrained", "a"), ("random weights", "a"), ("other", "b")):
        files.write_json(paths.FINETUNED / "source.json", {"corpus": {"files": digest}, "encoder": {"name": name}})
        git("add", "--all")
        git("commit", "--quiet", "--message", name)
        commits[name] = git("rev-parse", "HEAD")
    alike = {name: commits[name] for name in ("pretrained", "random weights")}
    assert revision.read_source(alike) == {"corpus": {"files": "a"}, "encoder": {"name": "pretrained"}}
    with pytest.raises(UserError, match=r"^other and pretrained were trained with different files .* run this again$"):
        revision.read_source(commits)


def test_changes_are_those_of_the_project(repository, tmp_path):
    (tmp_path / "larger/elsewhere").write_text("2")
    (tmp_path / "larger/project/new").write_text("not tracked")
    assert revision.describe_commit() == repository[0]
    (tmp_path / "larger/project/file").write_text("3")
    assert revision.list_changes() == ["file"]
    assert revision.describe_commit() == f"{repository[0]} and what has changed since"


@pytest.mark.parametrize("failing", ["dubious", "no commit", "no repository", "no git"])
def test_what_git_refuses_is_one_line_in_its_words(failing, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    expected = "fatal: not a git repository"
    if failing == "no commit":
        git("init", "--quiet")
        expected = "this repository has no commit: git add --all && git commit"
    elif failing != "no repository":
        monkeypatch.setenv("PATH", str(tmp_path))
        expected = "git is not installed"
    if failing == "dubious":
        script = (
            "#!/bin/sh\nprintf \"fatal: detected dubious ownership in '/x'\\n\\n\\tgit config /x\\n\" >&2; exit 128\n"
        )
        (tmp_path / "git").write_text(script)
        (tmp_path / "git").chmod(0o755)
        monkeypatch.setattr(revision, "make_environment", lambda: {"PATH": str(tmp_path)})
        expected = "fatal: detected dubious ownership in '/x' git config /x"
    with pytest.raises(UserError) as error:
        revision.read_commit()
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert revision.describe_commit() == "none"
    assert capsys.readouterr().err == f"warning: the commit is unknown: {error.value}\n"
    if failing == "no commit":  # as the line says
        (tmp_path / "file").write_text("1")
        git("add", "--all")
        git("commit", "--quiet", "--message", "first")
        assert revision.describe_commit() == git("rev-parse", "HEAD")


def test_dvcs_refusal_is_its_line_of_error_whatever_path_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert subprocess.run(["which", "dvc"], capture_output=True, check=False).returncode, "another dvc is on the PATH"
    with pytest.raises(UserError, match=r"^dvc exp list: you are not inside of a DVC repository [^\n]*$"):
        revision.run_program("dvc", "exp", "list")
