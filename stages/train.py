"""Reads data/tokenized/{train,validation}.parquet and models/pretrained/. Writes models/finetuned/ and metrics/."""

from cola.core import processes
from cola.report import mlflow_logger

if __name__ == "__main__":  # before the imports that take seconds
    processes.start_stage()
    mlflow_logger.start()

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from cola.core import files, inputs, params, paths
from cola.core.errors import run
from cola.data import encoding, tables, tutorial
from cola.model import classifier, prediction
from cola.model.device import choose_precision, describe_machine, measure_peak_memory, prepare_device
from cola.report import console
from cola.train import checkpoint, distributed, history, loop, model_card

SPLITS = {"train": paths.TOKENIZED / "train.parquet", "validation": paths.TOKENIZED / "validation.parquet"}


def main() -> None:
    settings = params.load(paths.PARAMS)
    if distributed.needs_launch(settings.train.processes):
        distributed.launch("stages.train", settings.train.processes)
        return
    device = prepare_device(settings.device)
    with distributed.process_group(device):
        train_model(settings, device)


def train_model(settings: params.Params, device: torch.device) -> None:
    """Train. Every process does; only rank 0 writes, records and prints."""
    recipe, source = settings.train, read_source(settings)
    precision = choose_precision(settings.precision, device)
    machine = {"device": describe_machine(device), "precision": str(precision).removeprefix("torch.")}
    contents = {  # each machine has its own copies
        "seed or train of params.yaml": repr((settings.seed, recipe.model_dump(exclude={"processes"}))),
        "precision (auto depends on the machine)": machine["precision"],
        str(paths.TOKENIZED): (paths.TOKENIZED / files.CHECKSUMS).read_text(),
        str(paths.PRETRAINED): (paths.PRETRAINED / files.CHECKSUMS).read_text(),
    }
    distributed.require_same(contents, device)
    configuration = {"train": recipe.model_dump(), "seed": settings.seed, "processes": distributed.world_size()}
    path = checkpoint.find_path(configuration | machine, [*SPLITS.values(), paths.PRETRAINED / files.CHECKSUMS])
    checkpointer = checkpoint.Checkpointer(path)
    live_run = mlflow_logger.live_run(
        settings=params.flatten(settings), source=source, machine=machine, resumed=path.exists()
    )

    with checkpointer.name_interrupts(), live_run as send:

        def on_epoch(epoch: history.Epoch) -> None:
            with console.errors_as_warnings():
                print(epoch)
            send("epoch", history.tabulate_epochs([epoch]).to_dict("records")[0])

        torch.manual_seed(settings.seed)  # of the classifier's head, then of dropout
        model = classifier.load(paths.PRETRAINED, device, source["corpus"]["labels"], recipe.pretrained)
        sentences = {split: tables.read_sentences(path) for split, path in SPLITS.items()}
        prediction.check_model(model, paths.PRETRAINED, max(sentences["train"].input_ids, key=len))
        with loop.prepare(model, sentences, recipe, precision, settings.seed) as training:
            epochs = loop.fit(training, checkpointer, lambda step: send("step", step._asdict()), on_epoch)
        peak = distributed.all_reduce_max(measure_peak_memory(device), device)
        if distributed.rank() == 0:
            write_model(model, source, settings, epochs)
            write_metrics(settings, epochs, {"processes": distributed.world_size(), "peak_memory_gib": peak} | machine)
            with console.errors_as_warnings():
                console.print_training(pd.DataFrame(epochs), source)
            mlflow_logger.record("training")
            inputs.require_unchanged()  # without the edit, the training can go on from its checkpoint
            checkpoint.remove(path)


def read_source(settings: params.Params) -> dict[str, Any]:
    """The model's source.json: the corpus and the encoder that it is trained with."""
    encoder = files.read_json(files.verify(paths.PRETRAINED) / "source.json")
    if not settings.train.pretrained:
        encoder["name"] += tutorial.RANDOM_WEIGHTS
    return {"corpus": tables.read_source(SPLITS["train"]), "encoder": encoder}


def write_model(
    model: Any, source: Mapping[str, Any], settings: params.Params, epochs: Sequence[history.Epoch]
) -> None:
    counts = [tables.count(path) for path in SPLITS.values()]
    card = model_card.render(source, settings.train, history.tabulate_epochs(epochs), *counts)
    with files.atomic_folder(paths.FINETUNED) as folder:
        classifier.save(model, folder)
        encoding.copy_tokenizer(paths.PRETRAINED, folder, settings.tokenize.max_length)
        files.write_json(folder / "source.json", source)
        files.write_text(folder / "README.md", card)


def write_metrics(settings: params.Params, epochs: Sequence[history.Epoch], machine: Mapping[str, Any]) -> None:
    selected = history.tabulate_epochs([history.select_epoch(epochs, settings.train)])
    files.write_json(paths.TRAIN_METRICS, selected.drop(columns="epoch").iloc[0].to_dict())
    files.write_csv(paths.HISTORY, history.tabulate_epochs(epochs))
    files.write_csv(paths.STEPS, history.tabulate_steps(epochs))
    files.write_json(paths.TIMINGS, {**history.compute_timings(epochs), **machine})


if __name__ == "__main__":
    run(distributed.leave_errors_to_launcher(main))
