"""What pretraining is worth: the test MCC of the encoder in models/pretrained, and of the same with random weights.

Trains on the corpus in data/tokenized with the settings of params.yaml, once each way:
`python -m benchmarks.pretraining` after `dvc exp apply demo`, say.
"""

import torch

from cola import artifacts, classifier, params, paths, ragged, runtime, scoring, training
from cola.corpus import COLA_LABELS
from cola.errors import run


def main() -> None:
    settings = params.load(paths.PARAMS)
    device = runtime.choose_device(settings.device)
    precision = runtime.choose_precision(settings.precision, device)
    train, validation, test = (ragged.read(paths.TOKENIZED / f"{part}.parquet") for part in artifacts.PARTS)
    for weights in ("pretrained", "random"):
        runtime.fix_seed(settings.seed)
        model = classifier.load(paths.PRETRAINED, device, COLA_LABELS)
        if weights == "random":
            model = torch.nn.Module.to(type(model)(model.config), device)
        for epoch in training.fit(model, train, validation, settings.train, precision, settings.seed):
            print(f"{weights} weights, {epoch}", flush=True)
        logits = classifier.predict(model, test.input_ids, precision)
        mcc = scoring.mcc(test.labels, logits.argmax(axis=1))
        print(f"{weights} weights: test MCC {mcc:.3f}", flush=True)


if __name__ == "__main__":
    run(main)
