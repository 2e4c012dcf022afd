"""The demo with its own encoder, MiniLM, which pip brings: 20 steps of its training, twice."""

import pytest
from project import MINILM, check_contracts, copy_of_the_project

pytestmark = pytest.mark.slow


def test_the_demo_with_its_own_encoder_gives_the_same_bytes_twice_on_two_threads(tmp_path, run):
    project = copy_of_the_project(tmp_path, train__max_steps=20)
    printed = run(project, "make", "demo", OMP_NUM_THREADS="2")
    assert f"Training: minimal_pairs, {MINILM}" in printed
    run(project, "dvc", "exp", "apply", "demo")
    check_contracts(project, training=5_400, validation=600, epochs=1, steps_per_epoch=20)
    printed = run(project, "make", "verify", OMP_NUM_THREADS="2")
    assert "files are the same twice, byte for byte" in printed
    assert "Running stage 'train'" in printed
