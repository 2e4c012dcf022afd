"""Reads models/finetuned/ and data/tokenized/test.parquet. Writes five predictions to metrics/samples.json."""

from cola.core import files, params, paths
from cola.core.errors import run
from cola.data import tables
from cola.model import classifier, hardware, metrics, prediction
from cola.report import console, mlflow_runs

SAMPLES = 5


def main() -> None:
    settings = params.load(paths.PARAMS)
    test = tables.read(paths.TOKENIZED / "test.parquet")
    source = files.read_json(files.verified(paths.FINETUNED) / "source.json")
    device = hardware.choose_device(settings.device)
    precision = hardware.choose_precision(settings.precision, device)
    model = prediction.prepare(classifier.load(paths.FINETUNED, device), precision)
    chosen = test.sample(min(SAMPLES, len(test)), random_state=settings.sample_predict.seed)

    logits = prediction.predict_logits(model, chosen["input_ids"].to_list(), precision)

    predictions = metrics.prediction_table(chosen, logits, classifier.label_names(model))
    samples = predictions.drop(columns="sentence_source").to_dict("records")
    files.write_json(paths.SAMPLES, samples)
    console.print_samples(samples, source)
    mlflow_runs.record(mlflow_runs.samples)


if __name__ == "__main__":
    run(main)
