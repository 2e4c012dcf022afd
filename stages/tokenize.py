"""Reads data/raw/ and the tokenizer in models/pretrained/. Writes data/tokenized/ and metrics/corpus.json."""

from cola import artifacts, corpus, encoding, params, paths, tokenized
from cola.errors import run


def main() -> None:
    settings = params.load(paths.PARAMS)
    source = artifacts.read_json(artifacts.unchanged(paths.RAW) / "source.json")
    tokenizer = encoding.load_tokenizer(artifacts.unchanged(paths.PRETRAINED))
    rows = corpus.read_folder(paths.RAW, source["labels"])

    with tokenized.kept(settings.tokenize, settings.seed) as kept, artifacts.directory(paths.TOKENIZED) as folder:
        metrics = tokenized.write(folder, kept, *rows, tokenizer, settings.tokenize, settings.seed, source)
    artifacts.write_json(paths.CORPUS_METRICS, metrics)


if __name__ == "__main__":
    run(main)
