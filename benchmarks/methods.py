"""The methods of training and prediction that `benchmarks.speed` compares.

A method is a context manager. It takes a model and yields a function, which takes batches and returns the seconds of
every batch.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerFast

from benchmarks import tutorial, workload
from benchmarks.workload import Batch
from cola.core import params, paths
from cola.data.tables import Sentences
from cola.model import prediction
from cola.model.device import choose_precision
from cola.train import loop, optimizer_step
from cola.train.history import Progress

Timed = Callable[[list[Batch]], list[float]]
Method = Callable[[PreTrainedModel], AbstractContextManager[Timed]]


@cache
def read_recipe() -> params.Train:
    """Return the training settings of params.yaml."""
    return params.load(paths.PARAMS).train


def mark(device: torch.device) -> Any:
    """Return the time, on a GPU as an event in its stream, which delays no launch."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def compute_seconds(marks: list[Any]) -> list[float]:
    """Return the seconds from each mark to the next."""
    if isinstance(marks[0], float):
        return np.diff(marks).tolist()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in pairwise(marks)]


def time_steps(step: Callable[[Batch], Any], device: torch.device) -> Timed:
    def measure(batches: list[Batch]) -> list[float]:
        marks = [mark(device)]
        for batch in batches:
            step(batch)
            marks.append(mark(device))
        return compute_seconds(marks)

    return measure


def time_a_call(predict: Callable[[list[Batch]], Any], device: torch.device) -> Timed:
    """Return a function that predicts all batches in one call. Its seconds of every batch are the mean."""

    def measure(batches: list[Batch]) -> list[float]:
        (seconds,) = time_steps(lambda _: predict(batches), device)(batches[:1])
        return [seconds / len(batches)] * len(batches)

    return measure


@contextmanager
def train_as_the_tutorial(model: PreTrainedModel) -> Iterator[Timed]:
    model.set_attn_implementation("eager")
    model.train()
    optimizer, scheduler = tutorial.build_optimizer(model, read_recipe(), workload.STEPS)

    def run_step(batch: Batch) -> None:
        tutorial.take_step(model, tutorial.collate(*batch), optimizer, scheduler, read_recipe().max_grad_norm)

    yield time_steps(run_step, model.device)


@contextmanager
def train_with_trainer(model: PreTrainedModel, compiled: bool = False) -> Iterator[Timed]:
    """Train with transformers' Trainer. `compiled` needs a new process: accelerate decides on it once per process."""
    from transformers import PrinterCallback, Trainer, TrainerCallback

    def measure(batches: list[Batch]) -> list[float]:
        marks: list[Any] = []

        class Marks(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                marks.append(mark(model.device))

        arguments = configure_trainer(
            model.device,
            max_steps=len(batches),
            train_sampling_strategy="sequential",
            torch_compile=compiled and model.device.type == "cuda",
        )
        rows = [{"input_ids": ids, "labels": label} for batch in batches for ids, label in zip(*batch, strict=True)]
        trainer = Trainer(model, arguments, build_collator(), train_dataset=rows, callbacks=[Marks()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return compute_seconds([*marks, mark(model.device)])

    yield measure


@contextmanager
def train_fast(
    model: PreTrainedModel, precision: torch.dtype | None = None, micro_batch_tokens: int | None = None
) -> Iterator[Timed]:
    """Train with the pipeline."""
    precision = precision or choose_precision("auto", model.device)
    recipe = read_recipe().model_copy(update={"micro_batch_tokens": micro_batch_tokens})
    sentence = to_sentences([([workload.VOCABULARY], torch.zeros(1, dtype=torch.int64))])  # all token ids of batches
    splits = {"train": sentence, "validation": sentence}
    with loop.prepare(model, splits, recipe, precision, seed=0) as training:
        model.train()

        def measure(batches: list[Batch]) -> list[float]:
            on_batches = replace(training, train=to_sentences(batches))
            rows = iter(np.arange(len(on_batches.train.labels)).reshape(len(batches), -1))

            def run_step(_: Batch) -> None:
                optimizer_step.take_optimizer_step(on_batches, next(rows), Progress())

            return time_steps(run_step, model.device)(batches)

        yield measure


def to_sentences(batches: list[Batch]) -> Sentences:
    input_ids = [ids for input_ids, _ in batches for ids in input_ids]
    return Sentences(input_ids, torch.cat([labels for _, labels in batches]).numpy())


@contextmanager
def predict_as_the_tutorial(model: PreTrainedModel) -> Iterator[Timed]:
    model.set_attn_implementation("eager")
    model.eval()

    @torch.no_grad()
    def run_step(batch: Batch) -> None:
        collated = {name: tensor.to(model.device) for name, tensor in tutorial.collate(*batch).items()}
        model(input_ids=collated["input_ids"], attention_mask=collated["attention_mask"]).logits.cpu()

    yield time_steps(run_step, model.device)


@contextmanager
def predict_with_trainer(model: PreTrainedModel) -> Iterator[Timed]:
    """Predict with Trainer, without cuDNN's attention, whose plan for every new shape would spoil the mean."""
    from transformers import Trainer

    precision = choose_precision("auto", model.device)
    converted = {"bf16_full_eval": precision == torch.bfloat16, "fp16_full_eval": precision == torch.float16}
    trainer = Trainer(model, configure_trainer(model.device, **converted), build_collator())

    def predict_batches(batches: list[Batch]) -> None:
        rows = [{"input_ids": ids} for input_ids, _ in batches for ids in input_ids]
        trainer.predict(rows)  # type: ignore[arg-type]

    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield time_a_call(predict_batches, model.device)
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)


@contextmanager
def predict_fast(model: PreTrainedModel) -> Iterator[Timed]:
    precision = choose_precision("auto", model.device)
    prediction.make_fast(model, precision)

    def predict_batches(batches: list[Batch]) -> None:
        prediction.predict_logits(model, [ids for input_ids, _ in batches for ids in input_ids], precision)

    yield time_a_call(predict_batches, model.device)


def configure_trainer(device: torch.device, **settings: Any) -> Any:
    """Return settings for Trainer that do the recipe and are fast: in the pipeline's precision, never emulated."""
    from transformers import TrainingArguments

    precision = choose_precision("auto", device)
    return TrainingArguments(
        mkdtemp(),
        per_device_train_batch_size=workload.BATCH_SIZE,
        per_device_eval_batch_size=workload.BATCH_SIZE,
        learning_rate=read_recipe().learning_rate,
        weight_decay=0,
        max_grad_norm=read_recipe().max_grad_norm,
        optim="adamw_torch_fused",
        bf16=precision == torch.bfloat16,
        fp16=precision == torch.float16,
        use_cpu=device.type == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **settings,
    )


def build_collator() -> DataCollatorWithPadding:
    """Return Trainer's usual collator, with a tokenizer that knows nothing but padding."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = Tokenizer(WordLevel({"[PAD]": 0}, "[PAD]"))
    return DataCollatorWithPadding(PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]"))  # noqa: S106


@contextmanager
def allow_nondeterminism(method: Method, model: PreTrainedModel) -> Iterator[Timed]:
    """Use the method with PyTorch's default algorithms, which may not repeat their bytes on a GPU."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        with method(model) as timed:
            yield timed
    finally:
        torch.use_deterministic_algorithms(before)


METHODS: dict[str, dict[str, Method]] = {
    "training": {
        "the tutorial's loop": partial(allow_nondeterminism, train_as_the_tutorial),
        "transformers' Trainer": partial(allow_nondeterminism, train_with_trainer),
        "bert-cola, in float32": partial(train_fast, precision=torch.float32),
        "bert-cola": train_fast,
        "bert-cola, not deterministic": partial(allow_nondeterminism, train_fast),
        "transformers' Trainer, compiled": partial(allow_nondeterminism, partial(train_with_trainer, compiled=True)),
    },
    "prediction": {
        "padded, in float32": partial(allow_nondeterminism, predict_as_the_tutorial),
        "transformers' Trainer": partial(allow_nondeterminism, predict_with_trainer),
        "bert-cola": predict_fast,
    },
}
# On a CPU these equal the methods without the addition.
ONLY_ON_A_GPU = {"bert-cola, not deterministic", "transformers' Trainer, compiled"}
