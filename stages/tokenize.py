"""Reads data/raw/ and the tokenizer in models/pretrained/. Writes data/tokenized/ and metrics/corpus.json."""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.start_stage()

from cola.core import files, params, paths
from cola.core.errors import run
from cola.data import corpus, encoding, tokenize


def main() -> None:
    settings = params.load(paths.PARAMS)
    source = files.read_json(files.verified(paths.RAW) / "source.json")
    raw = corpus.read_folder(paths.RAW, source)
    tokenizer = encoding.load_tokenizer(files.verified(paths.PRETRAINED))
    max_length = settings.tokenize.max_length
    encoding.check_max_length(max_length, tokenizer)

    with tokenize.scratch_folder(settings.tokenize, settings.seed) as scratch:
        splits = tokenize.store_splits(scratch, raw, settings.tokenize, settings.seed)
        shards = tokenize.tokenize_splits(scratch, splits, tokenizer, max_length)
        with files.atomic_folder(paths.TOKENIZED) as folder:
            tokenize.write_tables(folder, shards, source)
        labels_and_lengths = tokenize.read_labels_and_lengths(shards)
    metrics = tokenize.corpus_metrics(labels_and_lengths, max_length, len(source["labels"]))
    files.write_json(paths.CORPUS_METRICS, metrics)


if __name__ == "__main__":
    run(main)
