"""Reads models/finetuned/ and data/tokenized/test.parquet. Writes five predictions to metrics/samples.json."""

from cola.core import processes
from cola.report import mlflow_logger

if __name__ == "__main__":  # before the imports that take seconds
    processes.start_stage()
    mlflow_logger.start()

from cola.core import files, inputs, params, paths
from cola.core.errors import run
from cola.data import tables, tutorial
from cola.model import metrics
from cola.model.device import choose_precision, prepare_device
from cola.model.prediction import Predictor
from cola.report import console

SAMPLES = 5


def main() -> None:
    settings = params.load(paths.PARAMS)
    test = tables.read(paths.TOKENIZED / "test.parquet")
    source = files.read_json(files.verify(paths.FINETUNED) / "source.json")
    device = prepare_device(settings.device)
    predictor = Predictor(paths.FINETUNED, device, choose_precision(settings.precision, device))
    chosen = test.sample(min(SAMPLES, len(test)), random_state=settings.sample_predict.seed)

    logits = predictor.compute_logits(chosen["input_ids"].to_list())

    predictions = metrics.tabulate_predictions(chosen, logits, predictor.label_names)
    samples = predictions.drop(columns="sentence_source").to_dict("records")
    files.write_json(paths.SAMPLES, samples)
    mlflow_logger.record("samples")
    with console.errors_as_warnings():
        console.print_predictions(f"Predictions: {tutorial.make_title(source)}", samples)
    inputs.require_unchanged()


if __name__ == "__main__":
    run(main)
