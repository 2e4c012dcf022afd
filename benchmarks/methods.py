"""The methods of training and of predicting that `benchmarks.speed` compares, each as its users run it.

A method takes a model, and is a context that gives a function: from batches to the seconds that each took.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import pairwise
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerFast

from benchmarks import tutorial, workload
from benchmarks.workload import Batch
from cola.core import params, paths
from cola.data.ragged import RaggedArray
from cola.model import classifier, prediction
from cola.model.device import choose_precision
from cola.train import loop, speedups

Model = PreTrainedModel
Timed = Callable[[list[Batch]], list[float]]
Method = Callable[[Model], AbstractContextManager[Timed]]
RECIPE = params.load(paths.PARAMS).train


class Clock:
    """Marks of time. On a GPU they are in its stream: a mark waits for nothing, and holds up no launch."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.marks: list[Any] = []

    def mark(self) -> None:
        if not self.cuda:
            self.marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.marks.append(event)

    def seconds(self) -> list[float]:
        """From each mark to the next."""
        if not self.cuda:
            return np.diff(self.marks).tolist()
        torch.cuda.synchronize()
        return [one.elapsed_time(other) / 1e3 for one, other in pairwise(self.marks)]


def _each(step: Callable[[Batch], Any], device: torch.device) -> Timed:
    def timed(batches: list[Batch]) -> list[float]:
        clock = Clock(device)
        clock.mark()
        for batch in batches:
            step(batch)
            clock.mark()
        return clock.seconds()

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
def train_with_trainer(model: Model, compiled: bool = False) -> Iterator[Timed]:
    """`compiled` needs a process of its own: accelerate settles it once in each."""
    from transformers import PrinterCallback, Trainer, TrainerCallback

    class Marks(TrainerCallback):
        def __init__(self, clock: Clock) -> None:
            self.clock = clock

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.clock.mark()

    def timed(batches: list[Batch]) -> list[float]:
        clock = Clock(model.device)
        rows = [{"input_ids": ids, "labels": label} for batch in batches for ids, label in zip(*batch, strict=True)]
        trainer = Trainer(
            model,
            _arguments(
                model.device,
                max_steps=len(batches),
                train_sampling_strategy="sequential",
                torch_compile=compiled and model.device.type == "cuda",
            ),
            DataCollatorWithPadding(_tokenizer()),
            train_dataset=rows,
            callbacks=[Marks(clock)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        clock.mark()
        return clock.seconds()

    yield timed


@contextmanager
def train_fast(model: Model, precision: torch.dtype | None = None) -> Iterator[Timed]:
    """The pipeline's training: what loop.fit does at each step."""
    precision = precision or choose_precision("auto", model.device)
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
    precision = choose_precision("auto", model.device)
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


def not_deterministic(method: Method) -> Method:
    """The method with the algorithms that PyTorch takes by default, which on a GPU need not repeat their bytes."""

    @contextmanager
    def changed(model: Model) -> Iterator[Timed]:
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)
        try:
            with method(model) as timed:
                yield timed
        finally:
            torch.use_deterministic_algorithms(before)

    return changed


TRAINING: dict[str, Method] = {
    "the tutorial's loop": not_deterministic(train_as_the_tutorial),
    "transformers' Trainer": not_deterministic(train_with_trainer),
    "bert-cola, in float32": partial(train_fast, precision=torch.float32),
    "bert-cola": train_fast,
}
TRAINING_ON_A_GPU: dict[str, Method] = {  # on a CPU these are the same as two above
    "transformers' Trainer, compiled": not_deterministic(partial(train_with_trainer, compiled=True)),
    "bert-cola, not deterministic": not_deterministic(train_fast),
}
PREDICTION: dict[str, Method] = {
    "padded, in float32": not_deterministic(predict_as_the_tutorial),
    "transformers' Trainer": not_deterministic(predict_with_trainer),
    "bert-cola": predict_fast,
}
METHODS = {"training": TRAINING, "prediction": PREDICTION}
