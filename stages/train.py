"""Reads data/tokenized/{train,validation}.parquet and models/pretrained/. Writes models/finetuned/ and metrics/."""

import pandas as pd
import torch

from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.data import encoding, ragged, tables
from cola.model import classifier, hardware
from cola.report import console, mlflow_runs
from cola.train import checkpoint, distributed, loop, model_card


def main() -> None:
    settings = params.load(paths.PARAMS)
    if distributed.needs_launch(settings.train.processes):
        distributed.launch("stages.train", settings.train.processes)
        return
    device = hardware.choose_device(settings.device)
    with distributed.process_group(device):
        one_process(settings, device)


def one_process(settings: params.Params, device: torch.device) -> None:
    """One of the processes of the training, or all of it."""
    train = ragged.read_sentences(paths.TOKENIZED / "train.parquet")
    validation = ragged.read_sentences(paths.TOKENIZED / "validation.parquet")
    corpus = tables.read_source(paths.TOKENIZED / "train.parquet")
    encoder = files.read_json(files.verified(paths.PRETRAINED) / "source.json")
    source = {"corpus": corpus, "encoder": encoder}
    precision = hardware.choose_precision(settings.precision, device)
    hardware.fix_seed(settings.seed)
    model = classifier.load(paths.PRETRAINED, device, corpus["labels"])

    machine = {"device": hardware.describe(device), "precision": str(precision).removeprefix("torch.")}
    inputs = [paths.TOKENIZED / "train.parquet", paths.TOKENIZED / "validation.parquet", *paths.PRETRAINED.iterdir()]
    determines = {"train": settings.train.model_dump(), "seed": settings.seed, "processes": distributed.world_size()}
    kept = checkpoint.path_for(determines | machine, inputs)

    epochs = []
    try:
        for epoch in loop.fit(model, train, validation, settings.train, precision, settings.seed, kept):
            print(epoch, flush=True)
            epochs.append(epoch)
    except KeyboardInterrupt:
        raise UserError(f"interrupted; `dvc repro` goes on after step {loop.steps_done(kept)}") from None
    size = {
        "processes": distributed.world_size(),
        "peak_memory_gib": distributed.all_reduce_max(hardware.peak_memory(device), device),
    }
    if distributed.rank():
        return

    history, steps, timings = loop.history(epochs), loop.steps(epochs), loop.timings(epochs)
    example = tables.shortest_sentence(paths.TOKENIZED / "train.parquet")
    with files.atomic_folder(paths.FINETUNED) as folder:
        classifier.save(model, folder)
        encoding.load_tokenizer(paths.PRETRAINED).save_pretrained(folder)
        files.write_json(folder / "source.json", source)
        files.write_text(
            folder / "README.md",
            model_card.text(source, settings.train, history, example, len(train.labels), len(validation.labels)),
        )
    last = loop.history([loop.published_epoch(epochs, settings.train)])
    files.write_json(paths.TRAIN_METRICS, last.drop(columns="epoch").iloc[0].to_dict())
    files.write_csv(paths.HISTORY, history)
    files.write_csv(paths.STEPS, steps)
    files.write_json(paths.TIMINGS, timings | size | machine)
    console.print_training(pd.DataFrame(epochs), source)
    mlflow_runs.record(mlflow_runs.training)
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    run(distributed.report_once(main))
