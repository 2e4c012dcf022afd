"""Reads models/finetuned/ and data/tokenized/. Writes the test's scores, predictions and analysis in metrics/."""

from cola import analysis, artifacts, classifier, fast, params, paths, report, runtime, scoring, tracking
from cola.errors import run


def main() -> None:
    settings = params.load(paths.PARAMS)
    tables = {part: artifacts.read_parquet(paths.TOKENIZED / f"{part}.parquet") for part in ("validation", "test")}
    tables["train"] = artifacts.read_some(paths.TOKENIZED / "train.parquet")
    source = artifacts.read_json(artifacts.unchanged(paths.FINETUNED) / "source.json")
    device = runtime.choose_device(settings.device)
    precision = runtime.choose_precision(settings.precision, device)
    model = fast.for_prediction(classifier.load(paths.FINETUNED, device), precision)

    validation, test = (
        classifier.predict(model, tables[part]["input_ids"].to_list(), precision) for part in ("validation", "test")
    )

    names, labels, predicted = classifier.labels(model), tables["test"]["label"].to_numpy(), test.argmax(axis=1)
    scores = scoring.scores(labels, predicted, len(names))
    predictions = scoring.predictions(tables["test"], test, names)
    figures, per_source, calibration = analysis.analyse(tables, test, validation)
    artifacts.write_json(paths.TEST_METRICS, scores)
    artifacts.write_csv(paths.MCC_PER_BATCH, scoring.mcc_per_batch(labels, predicted, settings.evaluate.batch_size))
    artifacts.write_csv(paths.PREDICTIONS, predictions)
    artifacts.write_json(paths.ANALYSIS, figures)
    artifacts.write_csv(paths.PER_SOURCE, per_source)
    artifacts.write_csv(paths.CALIBRATION, calibration)
    report.print_test(scores, figures, source)
    report.print_mistakes(analysis.mistakes(predictions, report.MISTAKES))
    tracking.record(tracking.evaluation)


if __name__ == "__main__":
    run(main)
