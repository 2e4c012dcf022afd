"""Reads nothing. Writes data/raw/ (the corpus) and models/pretrained/ (the encoder), each with its source.json."""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.start_stage()

from cola.core import files, params, paths
from cola.core.errors import run
from cola.fetch import download


def main() -> None:
    settings = params.load(paths.PARAMS)
    with files.atomic_folder(paths.RAW) as folder:
        source = download.corpus(settings.fetch.corpus, folder)
        files.write_json(folder / "source.json", source)
    with files.atomic_folder(paths.PRETRAINED) as folder:
        source = download.encoder(settings.fetch.encoder, settings.fetch.encoder_revision, folder)
        files.write_json(folder / "source.json", source)


if __name__ == "__main__":
    run(main)
