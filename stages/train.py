"""Reads data/tokenized/{train,validation}.parquet and models/pretrained/. Writes models/finetuned/ and metrics/."""

from cola.core import processes
from cola.report import mlflow_logger

if __name__ == "__main__":  # before the imports that take seconds
    processes.start_stage()
    mlflow_logger.start()

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.data import encoding, ragged, tables
from cola.model import classifier
from cola.model.device import choose_precision, describe_machine, peak_memory, prepare_device
from cola.report import console
from cola.train import checkpoint, distributed, history, loop, model_card


def main() -> None:
    settings = params.load(paths.PARAMS)
    if distributed.needs_launch(settings.train.processes):
        distributed.launch("stages.train", settings.train.processes)
        return
    device = prepare_device(settings.device)
    with distributed.process_group(device):
        checkpoint_path = checkpoint_of(settings, device)
        machine = {"device": describe_machine(device), "precision": precision_of(settings, device)}
        source = {
            "corpus": tables.read_source(paths.TOKENIZED / "train.parquet"),
            "encoder": files.read_json(files.verified(paths.PRETRAINED) / "source.json"),
        }
        if not settings.train.pretrained:
            source["encoder"]["name"] += " with random weights"
        with interruptible(checkpoint_path), live_run(settings, source, machine, checkpoint_path) as send:
            model, epochs = train(settings, device, source["corpus"]["labels"], checkpoint_path, send)
            peak = distributed.all_reduce_max(peak_memory(device), device)
            if distributed.rank() == 0:
                size = {"processes": distributed.world_size(), "peak_memory_gib": peak}
                write_model(model, source, settings, epochs)
                write_metrics(settings, epochs, size | machine)
                console.print_training(pd.DataFrame(epochs), source)
                mlflow_logger.record("training")
                checkpoint.remove(checkpoint_path)


def precision_of(settings: params.Params, device: torch.device) -> str:
    return str(choose_precision(settings.precision, device)).removeprefix("torch.")


def checkpoint_of(settings: params.Params, device: torch.device) -> Path:
    """Where this training's checkpoint is, by all that determines its result."""
    configuration = {
        "train": settings.train.model_dump(),
        "seed": settings.seed,
        "processes": distributed.world_size(),
        "device": describe_machine(device),
        "precision": precision_of(settings, device),
    }
    splits = [paths.TOKENIZED / "train.parquet", paths.TOKENIZED / "validation.parquet"]
    return checkpoint.path_for(checkpoint.digest(configuration, [*splits, *paths.PRETRAINED.iterdir()]))


@contextmanager
def interruptible(checkpoint_path: Path) -> Iterator[None]:
    """Make Ctrl-C an error that says where the training goes on."""
    try:
        yield
    except KeyboardInterrupt:
        steps = checkpoint.read_progress(checkpoint_path).steps_done
        raise UserError(f"interrupted; `dvc repro` goes on after step {steps}") from None


def live_run(
    settings: params.Params, source: Mapping[str, Any], machine: Mapping[str, str], checkpoint_path: Path
) -> AbstractContextManager[Callable[..., None]]:
    """The training's run in MLflow, to which rank 0 alone sends steps and epochs as they end."""
    if distributed.rank():
        return nullcontext(lambda *_: None)
    return mlflow_logger.live_run(
        settings=params.flatten(settings), source=source, machine=machine, resumed=checkpoint_path.exists()
    )


def train(
    settings: params.Params,
    device: torch.device,
    labels: Sequence[str],
    checkpoint_path: Path,
    send: Callable[..., None],
) -> tuple[Any, list[history.Epoch]]:
    """The trained model, and the record of each epoch, which is printed as it ends."""

    def on_epoch_end(epoch: history.Epoch) -> None:
        print(epoch, flush=True)
        send("epoch", history.epoch_table([epoch]).to_dict("records")[0])

    torch.manual_seed(settings.seed)
    model = classifier.load(paths.PRETRAINED, device, labels, settings.train.pretrained)
    epochs = loop.fit(
        model,
        ragged.read_sentences(paths.TOKENIZED / "train.parquet"),
        ragged.read_sentences(paths.TOKENIZED / "validation.parquet"),
        settings.train,
        choose_precision(settings.precision, device),
        settings.seed,
        checkpoint_path,
        on_epoch_end,
        lambda step: send("step", step._asdict()),
    )
    return model, epochs


def write_model(
    model: Any, source: Mapping[str, Any], settings: params.Params, epochs: Sequence[history.Epoch]
) -> None:
    tokenizer = encoding.load_tokenizer(paths.PRETRAINED)
    tokenizer.model_max_length = settings.tokenize.max_length  # what the model was trained for, not what it could take
    train_path = paths.TOKENIZED / "train.parquet"
    card = model_card.text(
        source,
        settings.train,
        history.epoch_table(epochs),
        tables.shortest_sentence(train_path),
        tables.count(train_path),
        tables.count(paths.TOKENIZED / "validation.parquet"),
    )
    with files.atomic_folder(paths.FINETUNED) as folder:
        classifier.save(model, folder)
        tokenizer.save_pretrained(folder)
        files.write_json(folder / "source.json", source)
        files.write_text(folder / "README.md", card)


def write_metrics(settings: params.Params, epochs: Sequence[history.Epoch], machine: Mapping[str, Any]) -> None:
    published = history.epoch_table([loop.published_epoch(epochs, settings.train)])
    files.write_json(paths.TRAIN_METRICS, published.drop(columns="epoch").iloc[0].to_dict())
    files.write_csv(paths.HISTORY, history.epoch_table(epochs))
    files.write_csv(paths.STEPS, history.step_table(epochs))
    files.write_json(paths.TIMINGS, {**history.timings(epochs), **machine})


if __name__ == "__main__":
    run(distributed.errors_to_launcher(main))
