"""What trainings with several seeds have in common."""

from collections.abc import Mapping
from typing import Any

from cola.core import params


def recipe(source: Mapping[str, Any], settings: params.Params) -> dict[str, Any]:
    """Plain data that tells one recipe from another: a model's source.json, and the settings without the seed.

    source.json names corpus and encoder, with the hashes of their files. The settings are flattened (params.flatten).
    """
    flat = params.flatten(settings)
    return {"source": source, "params": {key: value for key, value in flat.items() if key != "seed"}}
