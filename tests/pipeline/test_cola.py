"""The whole pipeline on the real CoLA, and on a look-alike of the tutorial's encoder."""

import json

import numpy as np
import pandas as pd
import pytest
from loopback import hub, make_bert_base_checkpoint
from project import MINILM, check_contracts, copy_project
from safetensors import safe_open

pytestmark = pytest.mark.slow


def test_cola_with_a_small_encoder(mirror, tmp_path, run):
    project = copy_project(tmp_path, fetch__encoder=MINILM, train__epochs=1, train__learning_rate=1e-4)
    printed = run(project, "dvc", "repro", COLA_MIRROR=str(mirror.parent))
    check_contracts(project, training=7_695, validation=856, epochs=1, steps_per_epoch=241)
    corpus = json.loads((project / "metrics/corpus.json").read_text())
    assert (corpus["test_sentences"], corpus["test_positives"], corpus["longest_sentence"]) == (516, 354, 47)
    assert corpus["truncated_sentences"] == 0
    history, steps = pd.read_csv(project / "metrics/history.csv"), pd.read_csv(project / "metrics/steps.csv")
    assert steps["loss"].head(60).mean() - steps["loss"].tail(60).mean() > 0.01  # 0.024 when this was written
    assert history["validation_loss"].iloc[-1] < 0.62  # 0.593 then; the classes' shares give 0.63
    assert "not comparable" in printed
    assert "up to date" in run(project, "dvc", "repro")


def test_bert_base_from_a_hub_is_trained_with_the_weights_it_was_given(encoder_folder, tmp_path, tmp_path_factory, run):
    """The look-alike has bert-base-uncased's names, shapes and sizes, and a revision that is not pinned."""
    served = tmp_path_factory.mktemp("hub")
    make_bert_base_checkpoint(served, seed=7, vocabulary=encoder_folder / "vocab.txt")
    name, revision, steps = "google-bert/bert-base-uncased", "c" * 40, 3
    settings = {"fetch__corpus": "corpora/example", "fetch__encoder_revision": revision, "train__max_steps": steps}
    project = copy_project(tmp_path, **settings)
    with hub(name, revision, served) as server:
        printed = run(project, "make", "repro", HF_ENDPOINT=server.url)
    assert "not comparable" in printed
    assert len(pd.read_csv(project / "metrics/steps.csv")) == steps
    arrived = 0
    with (
        safe_open(served / "model.safetensors", "numpy") as given,
        safe_open(project / "models/finetuned/model.safetensors", "numpy") as trained,
    ):
        assert len(trained.keys()) == 201
        for tensor in given.keys():  # noqa: SIM118 - safe_open is no dict
            if tensor.startswith("cls."):
                continue
            new = tensor.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            moved = np.abs(given.get_tensor(tensor) - trained.get_tensor(new)).max()
            # AdamW moves a weight by about the learning rate a step, whatever its gradient.
            assert moved <= 1.5 * steps * 2e-5, tensor
            arrived += 1
    assert arrived == 199
