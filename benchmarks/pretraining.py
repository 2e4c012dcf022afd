"""What pretraining is worth: the test MCC of the encoder in models/pretrained, and of the same with random weights.

Trains on the corpus in data/tokenized with the settings of params.yaml, once with each:
`python -m benchmarks.pretraining` after `dvc exp apply demo`, say.
"""

import torch

from cola.core import params, paths
from cola.core.errors import run
from cola.data import ragged, tables
from cola.data.corpus import COLA_LABELS
from cola.model import classifier, hardware, metrics, prediction
from cola.train import loop


def main() -> None:
    settings = params.load(paths.PARAMS)
    device = hardware.prepare_device(settings.device)
    precision = hardware.choose_precision(settings.precision, device)
    train, validation, test = (ragged.read_sentences(paths.TOKENIZED / f"{part}.parquet") for part in tables.SPLITS)
    for weights in ("pretrained", "random"):
        hardware.fix_seed(settings.seed)
        model = classifier.load(paths.PRETRAINED, device, COLA_LABELS)
        if weights == "random":
            model = torch.nn.Module.to(type(model)(model.config), device)
        for epoch in loop.fit(model, train, validation, settings.train, precision, settings.seed):
            print(f"{weights} weights, {epoch}")
        logits = prediction.predict_logits(model, test.input_ids, precision)
        mcc = metrics.mcc(test.labels, logits.argmax(axis=1))
        print(f"{weights} weights: test MCC {mcc:.3f}", flush=True)


if __name__ == "__main__":
    run(main)
