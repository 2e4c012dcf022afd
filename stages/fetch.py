"""Writes data/raw/ (the corpus) and models/pretrained/ (the encoder), each with its source.json.

`python -m stages.fetch corpus` writes one of them, and `python -m stages.fetch` both.
"""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.start_stage()

import sys
from functools import partial

from cola.core import files, inputs, params, paths
from cola.core.errors import UserError, run
from cola.fetch import download, encoders


def write_corpus(settings: params.Params) -> None:
    with files.atomic_folder(paths.RAW) as folder:
        source = download.fetch_corpus(settings.fetch.corpus, folder)
        files.write_json(folder / "source.json", source)


def write_encoder(settings: params.Params) -> None:
    with files.atomic_folder(paths.PRETRAINED) as folder:
        source = download.fetch_encoder(settings.fetch.encoder, settings.fetch.encoder_revision, folder)
        encoders.try_out(settings.fetch.encoder, folder)
        files.write_json(folder / "source.json", source)


HALVES = {"corpus": write_corpus, "encoder": write_encoder}


def main(*halves: str) -> None:
    settings = params.load(paths.PARAMS)
    if not HALVES.keys() >= set(halves):
        raise UserError(f"which part? python -m stages.fetch {' or '.join(HALVES)}")
    for half in halves or HALVES:
        HALVES[half](settings)
    inputs.require_unchanged()


if __name__ == "__main__":
    run(partial(main, *sys.argv[1:]))
