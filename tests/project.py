"""Copies of the project, and checks of their outputs."""

import importlib
import json
import re
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cola.core import errors, paths
from cola.fetch import minimal_pairs

ROOT = Path(__file__).parents[1]
METRICS = {  # the keys of the files in metrics/ that are JSON objects
    "corpus.json": "training_sentences validation_sentences test_sentences test_positives longest_sentence mean_length "
    "truncated_sentences",
    "train.json": "training_loss validation_loss validation_accuracy validation_mcc",
    "timings.json": "training_seconds validation_seconds sentences_per_second tokens_per_second processes "
    "peak_memory_gib device precision",
    "test.json": "mcc accuracy macro_f1 f1 sentences positives",
    "analysis.json": "mcc_low mcc_high calibration_error majority_accuracy bag_of_words_accuracy bag_of_words_mcc "
    "threshold threshold_mcc",
}
STAGES = ("fetch", "tokenize", "train", "evaluate", "sample_predict")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def copy_project(folder, **settings):
    """Make a clone in `folder` with this test's environment and changed settings of params.yaml; return the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\n"):
        result = name == "dvc.lock" or re.fullmatch(r"metrics/[^/]+(?<!\.gitignore)", name)
        if name and (ROOT / name).exists() and not result:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    change_settings(folder, **settings)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    identity = (["config", "user.name", "test"], ["config", "user.email", "test@localhost"])
    for command in (["init", "-q"], *identity, ["add", "-A"], ["commit", "-q", "-m", "copy"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def change_settings(project, **settings):
    """Change settings of params.yaml: train__epochs=2 changes train.epochs."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    for key, value in settings.items():
        section, _, name = key.rpartition("__")
        (params[section] if section else params)[name] = value
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def read_pipeline_and_halves():
    """Return the stages of dvc.yaml, with the two halves of fetch as one stage; and the halves, by name."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    template, halves = stages["fetch"]["do"], {}
    for half, fields in stages["fetch"]["foreach"].items():  # as DVC fills in the template
        text = json.dumps(template).replace("${key}", half)
        for field, value in fields.items():
            text = text.replace(f"${{item.{field}}}", value)
        assert "${" not in text
        halves[half] = json.loads(text)
    stages["fetch"] = {
        "cmd": template["cmd"].removesuffix(" ${key}"),
        "params": ["fetch"],
        **{key: halves["corpus"][key] + halves["encoder"][key] for key in ("deps", "outs")},
    }
    return stages, halves


def tiny_encoder(folder, **changes):
    """Write a tiny encoder that knows the words of the generated corpus, and all letters.

    Its large weights make predictions differ between sentences after little training.
    """
    import tiny  # and with it torch, which takes seconds: only here

    sentences = [row.sentence for rows in minimal_pairs.generate().values() for row in rows]
    words = {word for sentence in sentences for word in re.findall(r"\w+|[^\w\s]", sentence.lower())}
    letters = {prefix + letter for letter in string.ascii_lowercase for prefix in ("", "##")}
    vocabulary = tiny.SPECIAL + sorted(words | letters)
    tiny.encoder(folder, vocab_size=len(vocabulary), initializer_range=0.5, **changes)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")


def run_stage(stage):
    """Run a stage in this process and its folder, on two threads: their number determines the bytes."""
    import torch  # takes seconds: only here

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "2")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        torch.set_num_threads(2)
        try:
            errors.run(importlib.import_module(f"stages.{stage}").main)
        finally:
            torch.set_num_threads(threads)


def list_runs(project):
    """Return a client of a project's MLflow database, and its runs."""
    from mlflow.tracking import MlflowClient  # takes seconds: only here

    path = str(project).replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    client = MlflowClient(f"sqlite:///{path}/mlflow.db")
    return client, client.search_runs([client.get_experiment_by_name("bert-cola").experiment_id])


def outputs(project):
    """Return {path: content} of the files that must be equal in two runs."""
    folders = ("data", "models", "metrics")
    files = [path for folder in folders for path in (project / folder).rglob("*") if path.is_file()]
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in files
        if path.name not in ("timings.json", ".gitignore") and project / paths.REFERENCE not in path.parents
    }


def check_contracts(project, *, training, validation, epochs, steps_per_epoch):
    """Check the README's promises about every output."""
    import torch  # these take seconds: only here
    from transformers import pipeline

    from cola.model.prediction import Predictor

    metrics = {path.name: json.loads(path.read_text()) for path in (project / "metrics").glob("*.json")}
    samples = metrics.pop("samples.json")
    assert {name: set(keys) for name, keys in metrics.items()} == {
        name: set(keys.split()) for name, keys in METRICS.items()
    }
    corpus, test, analysis = metrics["corpus.json"], metrics["test.json"], metrics["analysis.json"]
    assert (corpus["training_sentences"], corpus["validation_sentences"]) == (training, validation)
    history = pd.read_csv(project / "metrics/history.csv")
    assert history["epoch"].to_list() == list(range(1, epochs + 1))
    last = history.iloc[-1].drop("epoch").to_dict()
    assert metrics["train.json"] == pytest.approx(last)
    steps = pd.read_csv(project / "metrics/steps.csv")
    assert steps.columns.to_list() == ["step", "loss", "learning_rate", "gradient_norm"]
    assert steps["step"].to_list() == list(range(1, epochs * steps_per_epoch + 1))
    assert steps["learning_rate"].is_monotonic_decreasing
    predictions = pd.read_csv(project / "metrics/predictions.csv", keep_default_na=False)
    assert len(predictions) == test["sentences"] == corpus["test_sentences"]
    assert (predictions["label"] == predictions["predicted"]).mean() == pytest.approx(test["accuracy"])
    per_batch = pd.read_csv(project / "metrics/mcc_per_batch.csv")
    assert len(per_batch) == -(-test["sentences"] // 32)
    assert analysis["mcc_low"] <= test["mcc"] <= analysis["mcc_high"]
    for name in ("per_source", "calibration"):
        assert pd.read_csv(project / f"metrics/{name}.csv")["sentences"].sum() == test["sentences"]
    assert len(samples) == 5
    for sample in samples:
        assert sample.keys() == {"sentence", "label", "predicted", "probability", "correct"}
        assert sample["correct"] == (sample["label"] == sample["predicted"])
    tokenized = pd.read_parquet(project / "data/tokenized/train.parquet")
    assert tokenized.columns.to_list() == ["sentence_source", "label", "sentence", "input_ids"]
    assert len(tokenized) == training
    model, sentences = project / "models/finetuned", [sample["sentence"] for sample in samples]
    classify = pipeline("text-classification", str(model))  # in float32
    recorded, exact = (
        Predictor(model, torch.device("cpu"), precision).classify(sentences)
        for precision in (getattr(torch, metrics["timings.json"]["precision"]), torch.float32)
    )
    differences = []
    for sample, (label, probability), (exact_label, exact_probability) in zip(samples, recorded, exact, strict=True):
        assert (sample["predicted"], sample["probability"]) == (label, pytest.approx(probability, abs=0.03))
        scores = {answer["label"]: answer["score"] for answer in classify(sample["sentence"], top_k=None)}
        assert scores[exact_label] == max(scores.values()) == pytest.approx(exact_probability, abs=1e-5)
        differences.append(abs(scores[sample["predicted"]] - sample["probability"]))
    # In bfloat16 a sentence's probability may differ by 0.1 from float32's, but seldom does.
    assert sum(differences) / len(differences) < 0.04
