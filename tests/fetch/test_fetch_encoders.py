"""An encoder from a user's own folder: what is taken from it, and its one trial."""

import json
import re

import pytest
import tiny
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertForMaskedLM

from cola.core import files
from cola.core.errors import UserError
from cola.fetch import download, encoders

CANNOT_USE = " cannot be used: "
TEXTS = ["Word1, word2.", "naïve $5", "word3"]


@pytest.fixture
def mine(tmp_path):
    """A user's folder with a tiny BERT."""
    (tmp_path / "mine").mkdir()
    return tiny.encoder(tmp_path / "mine")


def fetch(mine):
    """Copy an encoder as the stage does; returns the new folder, empty but for it, and its source."""
    folder = mine.parent / f"pretrained{len(list(mine.parent.iterdir()))}"
    folder.mkdir()
    source = download.encoder(str(mine), None, folder)
    encoders.try_out(str(mine), folder)
    return folder, source


def ids(folder):
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)(TEXTS)["input_ids"]


def write(file, content):
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def edit(file, **changes):
    write(file, (json.loads(file.read_text()) if file.exists() else {}) | changes)


def test_an_encoder_is_copied_with_its_tokenizer_and_nothing_else(mine):
    for name in ("notes.txt", "pytorch_model.bin", "own.py"):
        (mine / name).touch()
    (mine / "old.model").mkdir()
    folder, source = fetch(mine)
    assert (source["name"], source["revision"]) == ("mine", None)
    hashes = {path.name: files.sha256(path) for path in folder.iterdir()}
    assert hashes == source["files"]
    assert hashes.keys() == {"config.json", "model.safetensors", "vocab.txt"}
    assert hashes["model.safetensors"] == files.sha256(mine / "model.safetensors")


def pointer(file):
    def replace(mine):
        write(mine / file, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 133\n")

    return replace


def of_another_kind(kind, **changes):
    """The change of a folder into an encoder with random weights and a tokenizer of words in one file."""

    def replace(mine):
        (mine / "vocab.txt").unlink()
        sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        AutoModel.from_config(AutoConfig.for_model(kind, **sizes | changes)).save_pretrained(mine)
        tiny.word_tokenizer().save_pretrained(mine)
        edit(mine / "tokenizer_config.json", pad_token=None)

    return replace


def with_a_tokenizer_file(kind):
    """The change into an encoder of this kind with its own tokenizer.json, without the settings that name its class."""

    def replace(mine):
        of_another_kind(kind, intermediate_size=24, pad_token_id=0, eos_token_id=3, cls_token_id=2)(mine)
        tiny.word_tokenizer(lowercase=False).save_pretrained(mine)
        (mine / "tokenizer_config.json").unlink()

    return replace


def with_capitals(mine):
    words = [word.capitalize() for word in tiny.WORDS]
    write(mine / "vocab.txt", "\n".join([*tiny.SPECIAL, *words]))


def add_words(*words):
    return lambda mine: write(mine / "vocab.txt", "\n".join([*tiny.SPECIAL, *tiny.WORDS, *words]))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda mine: (mine / "config.json").unlink(), "has no config.json "),
        (lambda mine: (mine / "model.safetensors").unlink(), "has no model.safetensors "),
        (lambda mine: edit(mine / "config.json", auto_map={"AutoModel": "own.Model"}), "auto_map, code of its own"),
        (
            lambda mine: write(mine / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": "own.T"}}),
            "tokenizer_config.json has auto_map, code of its own",
        ),
        (lambda mine: write(mine / "config.json", [1]), "config.json is not a JSON object"),
        (lambda mine: write(mine / "config.json", "{"), "config.json is not a JSON object"),
        (lambda mine: edit(mine / "config.json", model_type="future"), "no sentences with model_type future"),
        (lambda mine: edit(mine / "config.json", model_type="vit"), "no sentences with model_type vit"),
        (lambda mine: edit(mine / "config.json", hidden_size="wide"), CANNOT_USE),
        (
            lambda mine: edit(mine / "config.json", quantization_config={"quant_method": "gptq"}),
            "has quantized weights",
        ),
        (pointer("config.json"), "/config.json is a pointer of git-lfs, not the file: run `git lfs pull` in "),
        (pointer("model.safetensors"), "/model.safetensors is a pointer of git-lfs"),
        (pointer("vocab.txt"), "/vocab.txt is a pointer of git-lfs"),
        (lambda mine: write(mine / "model.safetensors", "cut"), CANNOT_USE),
        (lambda mine: (mine / "vocab.txt").unlink(), " has no tokenizer: put vocab.txt there, or tokenizer.json"),
        (lambda mine: write(mine / "vocab.txt", ""), CANNOT_USE),
        (lambda mine: write(mine / "vocab.txt", "<pad>\n<unk>\n<cls>\n"), CANNOT_USE),
        (lambda mine: write(mine / "vocab.txt", "\n".join(tiny.SPECIAL)), "its tokenizer knows 5 tokens"),
        (add_words("new"), "its tokenizer knows 41 tokens, and config.json says 40 (vocab_size)"),
        (lambda mine: write(mine / "tokenizer.json", []), CANNOT_USE),
        (lambda mine: write(mine / "tokenizer.json", '{"model": {'), CANNOT_USE),
        (
            lambda mine: write(mine / "tokenizer.json", {"model": {"type": "Future"}}),
            CANNOT_USE,
        ),
        (
            lambda mine: edit(
                mine / "tokenizer_config.json", tokenizer_class="BertJapaneseTokenizer", word_tokenizer_type="mecab"
            ),
            "You need to install fugashi",
        ),
    ],
)
def test_an_encoder_that_cannot_be_used_is_refused_in_one_line(mine, damage, fault):
    damage(mine)
    with pytest.raises(UserError, match=re.escape(fault)) as refused:
        fetch(mine)
    assert str(refused.value).startswith(str(mine))
    assert "\n" not in str(refused.value)


def carry_out(message, mine):
    """Write what a message says to the files that it names."""
    remedies = re.findall(r"(\{.*?\}) to (\w+\.json)", message)
    assert remedies
    for settings, file in remedies:
        edit(mine / file, **json.loads(settings))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (of_another_kind("gpt2", n_embd=16, n_layer=1, n_head=2), ": gpt2 has no padding token"),
        (of_another_kind("llama", intermediate_size=24), ": llama has no padding token"),
        (of_another_kind("esm", intermediate_size=24), ": esm has no padding token"),
        (with_a_tokenizer_file("albert"), "'dict' object is not an instance of 'Sequence'"),
        (with_a_tokenizer_file("modernbert"), ": modernbert has no padding token"),
        (with_a_tokenizer_file("roberta"), ": transformers' RobertaTokenizer does not tokenize as tokenizer.json does"),
        (with_a_tokenizer_file("bert"), ": transformers' BertTokenizer does not tokenize as tokenizer.json does"),
    ],
)
def test_the_settings_that_a_message_names_make_an_encoder_usable(mine, damage, fault):
    damage(mine)
    with pytest.raises(UserError, match=re.escape(fault)) as refused:
        fetch(mine)
    carry_out(str(refused.value), mine)
    try:
        folder, _ = fetch(mine)
    except UserError as second:  # the padding token comes last
        carry_out(str(second), mine)
        folder, _ = fetch(mine)
    assert ids(folder) == ids(mine)


def test_lost_capitals_are_told_and_what_is_told_keeps_them(mine, capsys):
    with_capitals(mine)
    fetch(mine)
    told = capsys.readouterr().out
    assert "35 words of its vocabulary have capitals, and its tokenizer makes all letters small" in told
    write(mine / "tokenizer_config.json", re.search(r"\{.*\}", told)[0])
    folder, _ = fetch(mine)
    assert "have capitals" not in capsys.readouterr().out
    assert ids(folder)[0][1] == 6, "Word1"


def test_a_tokenizer_in_files_of_other_names_comes_with_all_of_them(mine):
    """BERTweet's reads vocab.txt and bpe.codes."""
    of_another_kind("roberta", intermediate_size=24, pad_token_id=1)(mine)
    (mine / "tokenizer.json").unlink()
    write(mine / "vocab.txt", "".join(f"{word} 1\n" for word in [*"word123", "wo@@", *tiny.WORDS[:25]]))
    write(mine / "bpe.codes", "#version: 0.2\nw o 3\nr d</w> 2\n")
    write(mine / "tokenizer_config.json", {"tokenizer_class": "BertweetTokenizer"})
    folder, source = fetch(mine)
    assert {"bpe.codes", "vocab.txt"} <= source["files"].keys()
    assert ids(folder) == ids(mine)


def test_a_file_of_sentencepiece_needs_its_package(mine):
    of_another_kind("deberta-v2", intermediate_size=24, pad_token_id=0)(mine)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (mine / name).unlink()
    (mine / "spm.model").write_bytes(b"\n\x05")
    with pytest.raises(UserError, match=r"needs the package sentencepiece \(`pip install sentencepiece`"):
        fetch(mine)


def test_weights_of_masked_language_modelling_are_an_encoder(mine):
    BertForMaskedLM(tiny.config()).save_pretrained(mine)
    folder, _ = fetch(mine)
    assert files.sha256(folder / "model.safetensors") == files.sha256(mine / "model.safetensors")
