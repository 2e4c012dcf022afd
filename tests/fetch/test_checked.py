"""cola.fetch.checked: which files of an encoder are fetched."""

import ast
import re
from pathlib import Path

import pytest
import transformers

from cola.fetch.checked import is_encoder_file


def test_every_file_that_a_tokenizer_of_transformers_names_is_an_encoders():
    modules = list((Path(transformers.__file__).parent / "models").glob("*/tokenization_*.py"))
    tables = [re.search(r"^VOCAB_FILES_NAMES = (\{[^}]*\})", module.read_text(), re.MULTILINE) for module in modules]
    names = {name for table in tables if table for name in ast.literal_eval(table[1]).values()}
    assert len(names) > 15
    assert {"vocab.txt", "bpe.codes", "spm.model", "prophetnet.tokenizer"} <= names
    assert [name for name in names if not is_encoder_file(name)] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("config.json", True),
        ("tokenizer_config.json", True),
        ("model.safetensors", True),
        ("chat_template.jinja", True),
        ("model-00001-of-00002.safetensors", False),
        ("model.safetensors.index.json", False),
        ("pytorch_model.bin", False),
        ("Model.ONNX", False),
        ("training_args.bin", False),
        ("modeling_own.py", False),
        ("README.md", False),
        (".gitattributes", False),
        ("onnx/config.json", False),
        ("../vocab.txt", False),
        ("..\\vocab.txt", False),
        ("SHA256SUMS", False),  # a model of this pipeline has these two, of its own
        ("source.json", False),
    ],
)
def test_weights_in_other_forms_code_and_other_folders_are_not(name, expected):
    assert is_encoder_file(name) == expected
