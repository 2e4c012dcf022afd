"""The pins. The fixture `raw` of conftest.py fetches the true CoLA with them."""

import re

import pytest

from cola.fetch.sources import CORPORA, ENCODERS, Source, SplitZip


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
