"""Judges a sentence with the trained model: `python -m cola.predict "The book was written by John."`"""

import sys

import torch

from cola import artifacts, classifier, encoding, params, paths, report, scoring
from cola.errors import UserError, run


def main() -> None:
    sentence = " ".join(sys.argv[1:]).strip()
    if not sentence:
        raise UserError('no sentence given; try: make predict TEXT="The book was written by John."')
    if not paths.FINETUNED.exists():
        raise UserError(
            f"{paths.FINETUNED} has no trained model; run `make repro`, or `make demo` and `dvc exp apply demo`"
        )
    source = artifacts.read_json(artifacts.unchanged(paths.FINETUNED) / "source.json")
    max_length = params.load(paths.PARAMS).tokenize.max_length
    input_ids, _ = encoding.encode([sentence], encoding.load_tokenizer(paths.FINETUNED), max_length)
    model = classifier.load(paths.FINETUNED, torch.device("cpu"))  # one sentence is not worth waking a GPU
    probabilities = scoring.probabilities(classifier.predict(model, input_ids, torch.float32))[0]
    best = probabilities.argmax()
    print(f"{classifier.labels(model)[best]} ({probabilities[best]:.2f})  {sentence}  [{report.title(source)}]")


if __name__ == "__main__":
    run(main)
