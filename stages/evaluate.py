"""Reads models/finetuned/ and data/tokenized/. Writes the test's scores, predictions and analysis in metrics/."""

from cola.core import processes
from cola.report import mlflow_logger

if __name__ == "__main__":  # before the imports that take seconds
    processes.start_stage()
    mlflow_logger.start()

from cola.core import files, inputs, params, paths
from cola.core.errors import run
from cola.data import tables
from cola.evaluate import analysis
from cola.model import metrics
from cola.model.device import choose_precision, prepare_device
from cola.model.prediction import Predictor
from cola.report import console, references

MISTAKES = 5  # that are printed


def main() -> None:
    settings = params.load(paths.PARAMS)
    sentences = {
        "train": tables.read_first_row_group(paths.TOKENIZED / "train.parquet"),
        "validation": tables.read(paths.TOKENIZED / "validation.parquet"),
        "test": tables.read(paths.TOKENIZED / "test.parquet"),
    }
    source = files.read_json(files.verify(paths.FINETUNED) / "source.json")
    device = prepare_device(settings.device)
    predictor = Predictor(paths.FINETUNED, device, choose_precision(settings.precision, device))

    validation, test = (
        predictor.compute_logits(sentences[split]["input_ids"].to_list()) for split in ("validation", "test")
    )

    names, labels, predicted = predictor.label_names, sentences["test"]["label"].to_numpy(), test.argmax(axis=1)
    scores = metrics.compute_scores(labels, predicted, len(names))
    predictions = metrics.tabulate_predictions(sentences["test"], test, names)
    figures, sources, reliability = analysis.analyse(sentences, test, validation)
    files.write_json(paths.TEST_METRICS, scores)
    files.write_csv(paths.MCC_PER_BATCH, metrics.compute_mcc_per_batch(labels, predicted, settings.evaluate.batch_size))
    files.write_csv(paths.PREDICTIONS, predictions)
    files.write_json(paths.ANALYSIS, figures)
    files.write_csv(paths.PER_SOURCE, sources)
    files.write_csv(paths.CALIBRATION, reliability)
    mlflow_logger.record("evaluation")
    with console.errors_as_warnings():
        console.print_test(scores, figures, source, references.read())
        mistakes = analysis.select_mistakes(predictions, MISTAKES).to_dict("records")
        console.print_predictions("Mistakes with the highest probability", mistakes)
    inputs.require_unchanged()


if __name__ == "__main__":
    run(main)
