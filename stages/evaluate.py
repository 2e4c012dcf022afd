"""Reads models/finetuned/ and data/tokenized/. Writes the test's scores, predictions and analysis in metrics/."""

from cola.core import files, params, paths
from cola.core.errors import run
from cola.data import tables
from cola.evaluate import analysis
from cola.model import classifier, hardware, metrics, prediction
from cola.report import console, mlflow_runs


def main() -> None:
    settings = params.load(paths.PARAMS)
    data = {part: tables.read(paths.TOKENIZED / f"{part}.parquet") for part in ("validation", "test")}
    data["train"] = tables.read_first_row_group(paths.TOKENIZED / "train.parquet")
    source = files.read_json(files.verified(paths.FINETUNED) / "source.json")
    device = hardware.choose_device(settings.device)
    precision = hardware.choose_precision(settings.precision, device)
    model = prediction.prepare(classifier.load(paths.FINETUNED, device), precision)

    validation, test = (
        prediction.predict_logits(model, data[part]["input_ids"].to_list(), precision)
        for part in ("validation", "test")
    )

    names, labels, predicted = classifier.label_names(model), data["test"]["label"].to_numpy(), test.argmax(axis=1)
    scores = metrics.scores(labels, predicted, len(names))
    predictions = metrics.prediction_table(data["test"], test, names)
    figures, per_source, calibration = analysis.analyse(data, test, validation)
    files.write_json(paths.TEST_METRICS, scores)
    files.write_csv(paths.MCC_PER_BATCH, metrics.mcc_per_batch(labels, predicted, settings.evaluate.batch_size))
    files.write_csv(paths.PREDICTIONS, predictions)
    files.write_json(paths.ANALYSIS, figures)
    files.write_csv(paths.PER_SOURCE, per_source)
    files.write_csv(paths.CALIBRATION, calibration)
    console.print_test(scores, figures, source)
    console.print_mistakes(analysis.mistakes(predictions, console.MISTAKES))
    mlflow_runs.record(mlflow_runs.evaluation)


if __name__ == "__main__":
    run(main)
