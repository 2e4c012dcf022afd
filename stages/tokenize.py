"""Reads data/raw/ and the tokenizer in models/pretrained/. Writes data/tokenized/ and metrics/corpus.json."""

from cola import artifacts, corpus, encoding, params, paths
from cola.errors import run


def main() -> None:
    settings = params.load(paths.PARAMS)
    source = artifacts.read_json(artifacts.unchanged(paths.RAW) / "source.json")
    training_file, test = corpus.read_folder(paths.RAW, source["labels"])
    training, validation = corpus.split(training_file, settings.tokenize.validation_fraction, settings.seed)

    tables, metrics = encoding.tokenize(
        {"train": training, "validation": validation, "test": test},
        encoding.load_tokenizer(artifacts.unchanged(paths.PRETRAINED)),
        settings.tokenize.max_length,
        len(source["labels"]),
    )

    with artifacts.directory(paths.TOKENIZED) as folder:
        for name, table in tables.items():
            table.attrs = source
            artifacts.write_parquet(folder / f"{name}.parquet", table)
    artifacts.write_json(paths.CORPUS_METRICS, metrics)


if __name__ == "__main__":
    run(main)
