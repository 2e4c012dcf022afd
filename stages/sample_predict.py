"""Reads models/finetuned/ and data/tokenized/test.parquet. Writes five predictions to metrics/samples.json."""

from cola import artifacts, classifier, fast, params, paths, report, runtime, scoring, tracking
from cola.errors import run

SAMPLES = 5


def main() -> None:
    settings = params.load(paths.PARAMS)
    test = artifacts.read_parquet(paths.TOKENIZED / "test.parquet")
    source = artifacts.read_json(artifacts.unchanged(paths.FINETUNED) / "source.json")
    device = runtime.choose_device(settings.device)
    precision = runtime.choose_precision(settings.precision, device)
    model = fast.for_prediction(classifier.load(paths.FINETUNED, device), precision)
    chosen = test.sample(min(SAMPLES, len(test)), random_state=settings.sample_predict.seed)

    logits = classifier.predict(model, chosen["input_ids"].to_list(), precision)

    predictions = scoring.predictions(chosen, logits, classifier.labels(model))
    samples = predictions.drop(columns="sentence_source").to_dict("records")
    artifacts.write_json(paths.SAMPLES, samples)
    report.print_samples(samples, source)
    tracking.record(tracking.samples)


if __name__ == "__main__":
    run(main)
