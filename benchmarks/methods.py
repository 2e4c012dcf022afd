"""The methods of training and of predicting that `benchmarks.speed` compares, each as its users run it.

A method takes a model, and is a context that gives a function: from batches to the seconds that each took.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerFast

from benchmarks import tutorial, workload
from benchmarks.workload import Batch
from cola.core import params, paths
from cola.data.ragged import RaggedArray
from cola.model import classifier, hardware, prediction
from cola.train import loop, speedups

Model = PreTrainedModel
Timed = Callable[[list[Batch]], list[float]]
RECIPE = params.load(paths.PARAMS).train


def _each(step: Callable[[Batch], Any], device: torch.device) -> Timed:
    def timed(batches: list[Batch]) -> list[float]:
        marks = [now(device)]
        for batch in batches:
            step(batch)
            marks.append(now(device))
        return np.diff(marks).tolist()

    return timed


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def train_as_the_tutorial(model: Model) -> Iterator[Timed]:
    model.set_attn_implementation("eager")
    model.train()
    optimizer, scheduler = tutorial.optimization(model, RECIPE, workload.STEPS)

    def step(batch: Batch) -> None:
        tutorial.step(model, tutorial.collate(*batch), optimizer, scheduler, RECIPE.max_grad_norm)

    yield _each(step, model.device)


@contextmanager
def train_with_trainer(model: Model) -> Iterator[Timed]:
    from transformers import Trainer, TrainerCallback

    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            marks.append(now(model.device))

    def timed(batches: list[Batch]) -> list[float]:
        marks.clear()
        rows = [{"input_ids": ids, "labels": label} for batch in batches for ids, label in zip(*batch, strict=True)]
        Trainer(
            model,
            _arguments(model.device, max_steps=len(batches), train_sampling_strategy="sequential"),
            DataCollatorWithPadding(_tokenizer()),
            train_dataset=rows,
            callbacks=[Clock()],
        ).train()
        return np.diff([*marks, now(model.device)]).tolist()

    yield timed


@contextmanager
def train_fast(model: Model, precision: torch.dtype | None = None) -> Iterator[Timed]:
    """The pipeline's training: what loop.fit does at each step."""
    precision = precision or hardware.choose_precision("auto", model.device)
    with speedups.fast_training(model, [RaggedArray.from_rows([workload.VOCABULARY])], precision, weight_decay=0) as (
        _,
        weights,
    ):
        optimizer = torch.optim.AdamW(weights, lr=RECIPE.learning_rate, weight_decay=0, fused=True)
        model.train()

        def step(batch: Batch) -> None:
            input_ids, labels = batch
            collated = classifier.collate(model, input_ids, packed=True)
            loop.optimizer_step(
                model, [loop.MicroBatch(collated, labels, 1.0)], optimizer, RECIPE.max_grad_norm, precision
            )

        yield _each(step, model.device)


@contextmanager
def predict_as_the_tutorial(model: Model) -> Iterator[Timed]:
    model.set_attn_implementation("eager")
    model.eval()

    @torch.no_grad()
    def step(batch: Batch) -> None:
        collated = {name: tensor.to(model.device) for name, tensor in tutorial.collate(*batch).items()}
        model(input_ids=collated["input_ids"], attention_mask=collated["attention_mask"]).logits.cpu()

    yield _each(step, model.device)


@contextmanager
def predict_with_trainer(model: Model) -> Iterator[Timed]:
    from transformers import Trainer

    trainer = Trainer(model, _arguments(model.device, bf16_full_eval=True), DataCollatorWithPadding(_tokenizer()))

    def timed(batches: list[Batch]) -> list[float]:
        rows = [{"input_ids": ids} for input_ids, _ in batches for ids in input_ids]
        started = now(model.device)
        trainer.predict(rows)  # type: ignore[arg-type]
        return [(now(model.device) - started) / len(batches)] * len(batches)

    yield timed


@contextmanager
def predict_fast(model: Model) -> Iterator[Timed]:
    precision = hardware.choose_precision("auto", model.device)
    prediction.make_fast(model, precision)

    def timed(batches: list[Batch]) -> list[float]:
        input_ids = [ids for sentences, _ in batches for ids in sentences]
        started = now(model.device)
        prediction.predict_logits(model, input_ids, precision)
        return [(now(model.device) - started) / len(batches)] * len(batches)

    yield timed


def _arguments(device: torch.device, **more: Any) -> Any:
    """Trainer's settings as someone who knows them well would choose them, for the recipe."""
    from transformers import TrainingArguments

    return TrainingArguments(
        mkdtemp(),
        per_device_train_batch_size=workload.BATCH_SIZE,
        per_device_eval_batch_size=workload.BATCH_SIZE,
        learning_rate=RECIPE.learning_rate,
        weight_decay=0,
        max_grad_norm=RECIPE.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=True,
        use_cpu=device.type == "cpu",
        torch_compile=device.type == "cuda",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **more,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    """Nothing but what a collator pads with."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"[PAD]": 0}, "[PAD]")), pad_token="[PAD]")  # noqa: S106


TRAINING: dict[str, Callable[[Model], AbstractContextManager[Timed]]] = {
    "the tutorial's loop": train_as_the_tutorial,
    "transformers' Trainer": train_with_trainer,
    "bert-cola, in float32": partial(train_fast, precision=torch.float32),
    "bert-cola": train_fast,
}
PREDICTION: dict[str, Callable[[Model], AbstractContextManager[Timed]]] = {
    "padded, in float32": predict_as_the_tutorial,
    "transformers' Trainer": predict_with_trainer,
    "bert-cola": predict_fast,
}
METHODS = {"training": TRAINING, "prediction": PREDICTION}
