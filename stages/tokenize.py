"""Reads data/raw/ and the tokenizer in models/pretrained/. Writes data/tokenized/ and metrics/corpus.json."""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.start_stage()

from cola.core import files, inputs, params, paths
from cola.core.errors import escape, run
from cola.data import corpus, encoding, tables, tokenize


def main() -> None:
    settings = params.load(paths.PARAMS)
    source = files.read_json(files.verify(paths.RAW) / "source.json")
    tokenizer = encoding.load_tokenizer(files.verify(paths.PRETRAINED))
    max_length = settings.tokenize.max_length
    encoding.check_max_length(max_length, paths.PRETRAINED)

    training_file, test = (corpus.read(paths.RAW / name, source["labels"]) for name in ("train.csv", "test.csv"))
    splits = tokenize.split_rows(training_file, test, settings.tokenize, settings.seed)
    for name, rows in splits.items():
        if absent := tokenize.find_absent_labels(rows, source["labels"]):
            print(f"note: {name} has no sentence with these labels: {escape(', '.join(absent)[:200])}")
    tokenized = tokenize.tokenize_splits(splits, tokenizer, max_length)
    encoding.warn_of_unknown_tokens(tokenized["train"]["input_ids"], tokenizer)
    summary = tokenize.summarize(tokenized, max_length, len(source["labels"]))
    if cut := summary["truncated_sentences"]:
        print(f"note: sentences with more tokens than tokenize.max_length, {max_length}, which are cut: {cut:,}")
    with files.atomic_folder(paths.TOKENIZED) as folder:
        for name, table in tokenized.items():
            tables.write(folder / f"{name}.parquet", table, source)
    files.write_json(paths.CORPUS_METRICS, summary)
    inputs.require_unchanged()


if __name__ == "__main__":
    run(main)
