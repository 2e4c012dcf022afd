"""Reads data/raw/ and the tokenizer in models/pretrained/. Writes data/tokenized/ and metrics/corpus.json."""

from cola.core import files, params, paths
from cola.core.errors import run
from cola.data import corpus, encoding, tokenize


def main() -> None:
    settings = params.load(paths.PARAMS)
    source = files.read_json(files.verified(paths.RAW) / "source.json")
    tokenizer = encoding.load_tokenizer(files.verified(paths.PRETRAINED))
    rows = corpus.read_folder(paths.RAW, source["labels"])

    with (
        tokenize.scratch_folder(settings.tokenize, settings.seed) as kept,
        files.atomic_folder(paths.TOKENIZED) as folder,
    ):
        metrics = tokenize.write_tables(folder, kept, *rows, tokenizer, settings.tokenize, settings.seed, source)
    files.write_json(paths.CORPUS_METRICS, metrics)


if __name__ == "__main__":
    run(main)
