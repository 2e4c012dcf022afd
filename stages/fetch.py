"""Reads nothing. Writes data/raw/ (the corpus) and models/pretrained/ (the encoder), each with its source.json."""

from cola import artifacts, download, params, paths
from cola.errors import run


def main() -> None:
    settings = params.load(paths.PARAMS)
    with artifacts.directory(paths.RAW) as folder:
        source = download.corpus(settings.fetch.corpus, folder)
        artifacts.write_json(folder / "source.json", source)
    with artifacts.directory(paths.PRETRAINED) as folder:
        source = download.encoder(settings.fetch.encoder, settings.fetch.encoder_revision, folder)
        artifacts.write_json(folder / "source.json", source)


if __name__ == "__main__":
    run(main)
