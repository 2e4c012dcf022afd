"""What trainings with several seeds have in common."""

from collections.abc import Mapping
from typing import Any

from cola.core import params


def recipe(source: Mapping[str, Any], settings: params.Params) -> dict[str, Any]:
    """Plain data that tells one recipe from another: a model's source.json (corpus and encoder, with the hashes of
    their files), and the settings, flattened, without the seed."""
    flat = params.flatten(settings)
    return {"source": source, "params": {key: value for key, value in flat.items() if key != "seed"}}
