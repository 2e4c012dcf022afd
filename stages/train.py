"""Reads data/tokenized/{train,validation}.parquet and models/pretrained/. Writes models/finetuned/ and metrics/."""

import pandas as pd
import torch

from cola import (
    artifacts,
    card,
    checkpoint,
    classifier,
    encoding,
    parallel,
    params,
    paths,
    ragged,
    report,
    runtime,
    tracking,
    training,
)
from cola.errors import UserError, run


def main() -> None:
    settings = params.load(paths.PARAMS)
    if parallel.launches(settings.train.processes):
        parallel.launch("stages.train", settings.train.processes)
        return
    device = runtime.choose_device(settings.device)
    with parallel.joined(device):
        one_process(settings, device)


def one_process(settings: params.Params, device: torch.device) -> None:
    """One of the processes of the training, or all of it."""
    train = ragged.read(paths.TOKENIZED / "train.parquet")
    validation = ragged.read(paths.TOKENIZED / "validation.parquet")
    corpus = artifacts.source(paths.TOKENIZED / "train.parquet")
    encoder = artifacts.read_json(artifacts.unchanged(paths.PRETRAINED) / "source.json")
    source = {"corpus": corpus, "encoder": encoder}
    precision = runtime.choose_precision(settings.precision, device)
    runtime.fix_seed(settings.seed)
    model = classifier.load(paths.PRETRAINED, device, corpus["labels"])

    machine = {"device": runtime.describe(device), "precision": str(precision).removeprefix("torch.")}
    files = [paths.TOKENIZED / "train.parquet", paths.TOKENIZED / "validation.parquet", *paths.PRETRAINED.iterdir()]
    determines = {"train": settings.train.model_dump(), "seed": settings.seed, "processes": parallel.processes()}
    kept = checkpoint.place(determines | machine, files)

    epochs = []
    try:
        for epoch in training.fit(model, train, validation, settings.train, precision, settings.seed, kept):
            print(epoch, flush=True)
            epochs.append(epoch)
    except KeyboardInterrupt:
        raise UserError(f"interrupted; `dvc repro` goes on after step {training.steps_kept(kept)}") from None
    size = {"processes": parallel.processes(), "peak_memory_gib": parallel.largest(runtime.peak_memory(device), device)}
    if parallel.rank():
        return

    history, steps, timings = training.history(epochs), training.steps(epochs), training.timings(epochs)
    example = artifacts.shortest_sentence(paths.TOKENIZED / "train.parquet")
    with artifacts.directory(paths.FINETUNED) as folder:
        classifier.save(model, folder)
        encoding.load_tokenizer(paths.PRETRAINED).save_pretrained(folder)
        artifacts.write_json(folder / "source.json", source)
        artifacts.write_text(
            folder / "README.md",
            card.text(source, settings.train, history, example, len(train.labels), len(validation.labels)),
        )
    last = training.history([training.published(epochs, settings.train)])
    artifacts.write_json(paths.TRAIN_METRICS, last.drop(columns="epoch").iloc[0].to_dict())
    artifacts.write_csv(paths.HISTORY, history)
    artifacts.write_csv(paths.STEPS, steps)
    artifacts.write_json(paths.TIMINGS, timings | size | machine)
    report.print_training(pd.DataFrame(epochs), source)
    tracking.record(tracking.training)
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    run(parallel.said_once(main))
