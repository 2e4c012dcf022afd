"""Reads models/finetuned/ and data/tokenized/test.parquet. Writes the test's scores and predictions in metrics/."""

from cola import artifacts, classifier, fast, params, paths, report, runtime, scoring, tracking
from cola.errors import run


def main() -> None:
    settings = params.load(paths.PARAMS)
    test = artifacts.read_parquet(paths.TOKENIZED / "test.parquet")
    source = artifacts.read_json(artifacts.unchanged(paths.FINETUNED) / "source.json")
    device = runtime.choose_device(settings.device)
    precision = runtime.choose_precision(settings.precision, device)
    model = fast.for_prediction(classifier.load(paths.FINETUNED, device), precision)

    logits = classifier.predict(model, test["input_ids"].to_list(), precision)

    names = classifier.labels(model)
    predictions = scoring.predictions(test, logits, names)
    scores = scoring.scores(test["label"].to_numpy(), logits.argmax(axis=1), len(names))
    per_batch = scoring.mcc_per_batch(test["label"].to_numpy(), logits.argmax(axis=1), settings.evaluate.batch_size)
    artifacts.write_json(paths.TEST_METRICS, scores)
    artifacts.write_csv(paths.MCC_PER_BATCH, per_batch)
    artifacts.write_csv(paths.PREDICTIONS, predictions)
    report.print_test(scores, source)
    tracking.record(tracking.evaluation)


if __name__ == "__main__":
    run(main)
