"""The pins. CoLA's and MiniLM's are compared with the true bytes; of BERT's, which lie on the Hub, there is a copy."""

import re

import pytest

from cola.data import download
from cola.data.sources import CORPORA, ENCODERS, File, Source


def test_bert_base_typed_by_hand_a_second_time() -> None:
    bert = ENCODERS["google-bert/bert-base-uncased"]
    assert bert.revision == "86b5e0934494bd15c9632b12f734a8a67f723594"
    assert bert.files == {
        "config.json": File("7160e1553ad2ca51d8c1cb066be533db31826e12d173824c1bb0cb1a4f187d20", 570),
        "model.safetensors": File("68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3", 440449768),
        "vocab.txt": ENCODERS["sentence-transformers/all-MiniLM-L6-v2"].files["vocab.txt"],
    }


def test_the_pins_of_cola_are_those_of_its_archive(mirror, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("COLA_MIRROR", str(mirror.parent))
    assert download.corpus("cola", tmp_path)["files"] == {name: pin.hash for name, pin in CORPORA["cola"].files.items()}


@pytest.mark.parametrize("source", [*CORPORA.values(), *ENCODERS.values()], ids=lambda source: source.name)
def test_every_pin_is_well_formed(source: Source) -> None:
    assert (CORPORA | ENCODERS)[source.name] is source
    pins = [*source.files.values(), *([source.archive.file] if source.archive else [])]
    assert all(re.fullmatch("[0-9a-f]{64}", pin.hash) and pin.bytes > 0 for pin in pins)
    assert all(re.fullmatch(r"[\w.]+", name) for name in source.files), "a file name never leads out of its folder"
    assert source.license
    assert source.citation
    if source.name in ENCODERS:
        assert re.fullmatch("[0-9a-f]{40}", str(source.revision))
        assert sorted(source.files) == ["config.json", "model.safetensors", "vocab.txt"]
