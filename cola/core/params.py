"""params.yaml as frozen, strict models, one per section. They have no defaults: the file has every key."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cola.core.errors import UserError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(ge=1e-30, le=1e6, allow_inf_nan=False)]  # float32 rounds smaller numbers to 0
NotNegative = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # the range that both NumPy and PyTorch take

# Allowed values of settings, in plain words; by pydantic's type of the error, or by the setting that has a pattern.
EXPECTED = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "a section with its settings",
    "string_type": "text",
    "fetch.corpus": "the name of a corpus, or a folder: corpora/NAME",
    "fetch.encoder": "an id of the Hub, such as google-bert/bert-base-uncased, or a folder, such as ./my/encoder",
    "fetch.encoder_revision": "a commit's hash: 40 digits, 0 to 9 and a to f",
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Fetch(_Section):
    corpus: Annotated[str, Field(pattern=r"^(\w[\w.-]*|\S.*/.*)$")]  # a name, or a folder
    encoder: Annotated[str, Field(pattern=r"^(\w[\w.-]*/\w[\w.-]*|(/|\./|\.\./|~/).*)$")]
    encoder_revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None


class Tokenize(_Section):
    max_length: Annotated[int, Field(ge=3, le=100_000)]  # [CLS], one token, [SEP]
    validation_fraction: Fraction
    training_sentences: Annotated[int, Field(ge=1)] | None


class Train(_Section):
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    adam_epsilon: Positive
    weight_decay: NotNegative
    max_grad_norm: Positive
    pretrained: bool
    frozen_layers: Annotated[int, Field(ge=0, le=1000)]
    class_weights: Literal["balanced"] | None
    max_steps: Count | None
    early_stopping: Count | None
    micro_batch_tokens: Count | None
    processes: Annotated[int, Field(ge=1, le=1024)]
    fast: bool


class Evaluate(_Section):
    batch_size: Count


class SamplePredict(_Section):
    seed: Seed


class Params(_Section):
    seed: Seed
    device: Literal["auto", "cuda", "mps", "cpu"]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    fetch: Fetch
    tokenize: Tokenize
    train: Train
    evaluate: Evaluate
    sample_predict: SamplePredict


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that is given twice: PyYAML would take the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merges = "tag:yaml.org,2002:merge"  # <<, which takes over another mapping's keys
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merges]
        duplicates = [key for key in keys if keys.count(key) > 1]
        if duplicates:
            raise yaml.YAMLError(f"{duplicates[0]} is given twice, line {node.start_mark.line + 1} on")
        return super().construct_mapping(node, deep)


def _construct_number(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    """A number that DVC reads alike. To DVC, which reads YAML 1.2, 042 is 42 instead of 34, and 1:30 is a text."""
    if re.search("^[-+]?0[0-9]|[:_]", node.value):
        remedy = "write it without leading zeros, : and _"
        raise yaml.YAMLError(f"{node.value}, line {node.start_mark.line + 1}, is another value to DVC: {remedy}")
    return yaml.SafeLoader.yaml_constructors[node.tag](loader, node)


for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _StrictLoader.add_constructor(_tag, _construct_number)
# DVC writes 5.0e-5 as 5e-05 (YAML 1.2), which PyYAML (1.1) would take for a string.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
# PyYAML raises these for tags such as !!int without a number.
_YAML_ERRORS = (yaml.YAMLError, ValueError, IndexError, KeyError, AttributeError, RecursionError)


def load(path: Path) -> Params:
    """Read and check the whole file: a wrong setting of any stage must stop the first stage. Raises as `parse`."""
    try:
        return parse(path.read_bytes(), path)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: run this from the project's root, or restore it: git checkout {path}"
        ) from None


def parse(content: bytes, path: Path) -> Params:
    """Return the settings of a file's content; `path` is its name in errors.

    Raises UserError with every wrong key and the values that it allows.
    """
    try:
        return Params.model_validate(yaml.load(content.decode("utf-8"), _StrictLoader))  # noqa: S506 - a SafeLoader
    except ValidationError as error:
        fault = "; ".join(_describe(problem) for problem in error.errors())
    except _YAML_ERRORS as error:
        fault = "a merge conflict: keep one side of it" if b"\n<<<<<<< " in content else f"not valid YAML: {error}"
    raise UserError(f"{path}: {' '.join(fault.split())}")


def parse_value(text: str) -> Any:
    """Return the value of a setting in a command line: "5e-5" -> 5e-05, "null" -> None, "~/a b" -> "~/a b".

    A number, true, false, null and quoted text have the value that they have in params.yaml. Other text stays as it is.
    """
    try:
        value = yaml.load(text, _StrictLoader)  # noqa: S506 - a SafeLoader
    except _YAML_ERRORS:
        return text
    quoted = isinstance(value, str) and text[:1] in ("'", '"')
    return value if quoted or value is None or isinstance(value, (bool, int, float)) else text


def flatten(params: BaseModel) -> dict[str, Any]:
    """Return {'train.epochs': 4, ...}, with the names that `dvc exp run --set-param` takes."""
    flat: dict[str, Any] = {}
    for name, value in params:
        if isinstance(value, BaseModel):
            flat |= {f"{name}.{key}": inner for key, inner in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def _describe(problem: Any) -> str:
    """Describe an error of pydantic: 'seed must be greater than or equal to 0, not -1'."""
    key, kind = ".".join(str(part) for part in problem["loc"]) or "the file", problem["type"]
    if kind == "missing":
        return f"{key} is missing"
    if kind == "extra_forbidden":
        return f"{key} is not a setting"
    words = problem["msg"].removeprefix("Input should be ")
    expected = EXPECTED.get(key if kind == "string_pattern_mismatch" else kind, words)
    return f"{key} must be {expected}, not {problem['input']!r}"
