"""The trained model over HTTP, by the commands of docs/guide.md."""

import json
import os
import signal

import pytest
import requests
from processes import find_free_port, running, wait_for
from project import ROOT


@pytest.mark.slow
def test_the_guides_commands_serve_the_trained_model(applied, environment):
    _, _, rest = (ROOT / "docs/guide.md").read_text().partition("<!-- serve the model -->\n```sh\n")
    commands, _, _ = rest.partition("```")
    assert commands.count("--port 5001") == 1
    port, log = find_free_port(), applied.parent / "serve.log"
    commands = commands.replace("--port 5001", f"--port {port}")

    def answer():
        try:
            texts = {"inputs": ["The keys is here.", "The keys are here. " * 500]}
            return requests.post(f"http://127.0.0.1:{port}/invocations", json=texts, timeout=30).json()
        except requests.ConnectionError:
            return None

    with running(["bash", "-ec", commands], log, cwd=applied, env=environment) as process:
        predictions = wait_for(answer, 180, log.read_text)["predictions"]
        os.killpg(process.pid, signal.SIGINT)
    labels = json.loads((applied / "models/finetuned/config.json").read_text())["label2id"]
    assert [prediction["label"] in labels for prediction in predictions] == [True, True]
    assert all(0.5 <= prediction["score"] <= 1 for prediction in predictions)
