"""An encoder from a user's folder: the files that are copied, and its trial."""

import json
import re

import pytest
import tiny
import torch
from project import ROOT
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from cola.core import files
from cola.core.errors import UserError
from cola.fetch import download, encoders

CANNOT_USE = " cannot be used: "
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 133\n"
KINDS = {
    "albert": {"embedding_size": 8, "pad_token_id": 0},
    "deberta-v2": {"pad_token_id": 0},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "modernbert": {"pad_token_id": 0, "eos_token_id": 3, "cls_token_id": 2},
    "roberta": {"pad_token_id": 1},
}


@pytest.fixture
def mine(tmp_path):
    """A user's folder with a tiny BERT."""
    (tmp_path / "mine").mkdir()
    return tiny.encoder(tmp_path / "mine")


def fetch(mine):
    """Copy an encoder as the stage does; returns the new folder and the names of its files."""
    folder = mine.parent / f"pretrained{len(list(mine.parent.iterdir()))}"
    folder.mkdir()
    source = download.fetch_encoder(str(mine), None, folder)
    encoders.try_out(str(mine), folder)
    assert source["files"] == {path.name: files.hash_file(path) for path in folder.iterdir()}
    return folder, source["files"].keys()


def encode(folder):
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)(["Word1, word2.", "naïve $5"])["input_ids"]


def change(file, content):
    """Write text to a file, or change keys of its JSON object; None removes it."""
    if content is None:
        file.unlink()
    elif isinstance(content, dict):
        file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | content))
    else:
        file.write_text(content)


def join_vocabulary(*words):
    return "\n".join([*tiny.SPECIAL, *words])


def save(mine, kind, *, lowercase=True):
    """Make it an encoder of this kind, with a tokenizer.json and no settings that name its class."""
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(kind, **sizes | {"intermediate_size": 24} | KINDS.get(kind, {}))
    AutoModel.from_config(config).save_pretrained(mine)
    tiny.make_word_tokenizer(lowercase).save_pretrained(mine)
    for file in ("tokenizer_config.json", "vocab.txt"):
        (mine / file).unlink()


def test_an_encoder_is_copied_with_its_tokenizer_and_nothing_else(mine):
    for name in ("README.md", "config.json~", "desktop.ini"):  # DVC keeps none of the last two
        (mine / name).touch()
    (mine / "old.model").mkdir()
    (mine / "data_config.json").write_text("[]")  # a list of corpora, of sentence-transformers
    folder, names = fetch(mine)
    assert names == {"config.json", "data_config.json", "model.safetensors", "vocab.txt"}
    assert files.hash_file(folder / "model.safetensors") == files.hash_file(mine / "model.safetensors")


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("config.json", None, "has no config.json; "),
        ("adapter_config.json", {"peft_type": "LORA"}, "has an adapter, which is not loaded here: merge it into"),
        ("config.json", "[1]", "config.json is not a JSON object"),
        ("config.json", "{", "config.json is not a JSON object"),
        ("config.json", POINTER, "/config.json is a pointer of git-lfs, not the file: run `git lfs pull` in "),
        (
            "config.json",
            {"auto_map": {"AutoModel": "custom.Model"}},
            "config.json has auto_map, code that is never run",
        ),
        ("config.json", {"model_type": "vit"}, "Unrecognized configuration class <class "),
        ("config.json", {"hidden_size": "wide"}, CANNOT_USE),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "has quantized weights"),
        ("config.json", {"vocab_size": 39}, "does not fit config.json: bert.embeddings.word_embeddings.weight is miss"),
        ("config.json", {"num_hidden_layers": 3}, "does not fit config.json: bert.encoder.layer.2.attention."),
        ("model.safetensors", None, "has no model.safetensors; "),
        ("model.safetensors", POINTER, "/model.safetensors is a pointer of git-lfs"),
        ("model.safetensors", "cut", CANNOT_USE),
        ("vocab.txt", None, " has no tokenizer: add vocab.txt, or tokenizer.json"),
        ("vocab.txt", POINTER, "/vocab.txt is a pointer of git-lfs"),
        ("vocab.txt", "", CANNOT_USE),
        ("vocab.txt", "<pad>\n<unk>\n<cls>\n", CANNOT_USE),
        ("vocab.txt", join_vocabulary(), "its tokenizer knows 5 tokens"),
        ("vocab.txt", join_vocabulary(*tiny.WORDS, "new"), "its tokenizer knows 41 tokens, and config.json says 40"),
        ("tokenizer.json", "[]", CANNOT_USE),
        ("tokenizer.json", '{"model": {', CANNOT_USE),
        ("tokenizer.json", '{"model": {"type": "Future"}}', CANNOT_USE),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "custom.T"}}, "tokenizer_config.json has auto_map"),
        (
            "tokenizer_config.json",
            {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"},
            "You need to install fugashi",
        ),
    ],
)
def test_an_encoder_that_cannot_be_used_is_refused_in_one_line(mine, file, content, fault):
    before = (mine / file).read_bytes() if (mine / file).exists() else None
    change(mine / file, content)
    with pytest.raises(UserError, match=re.escape(fault)) as refused:
        fetch(mine)
    assert str(refused.value).startswith(str(mine))
    assert "\n" not in str(refused.value)
    (mine / file).write_bytes(before) if before else (mine / file).unlink()
    fetch(mine)


@pytest.mark.parametrize("form", ["pickle", "several files"])
def test_the_guide_shows_how_to_save_other_weights(mine, tmp_path, form):
    model = AutoModel.from_pretrained(mine)
    (mine / "model.safetensors").unlink()
    if form == "pickle":
        torch.save(model.state_dict(), mine / "pytorch_model.bin")
    else:
        model.save_pretrained(mine, max_shard_size="10KB")
    with pytest.raises(UserError, match=r'has no model.safetensors; "Another encoder" in docs/guide.md shows how'):
        fetch(mine)
    section = (ROOT / "docs/guide.md").read_text().partition("## Another encoder")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    code = code.replace('"some/encoder"', repr(str(mine))).replace('"encoder"', repr(str(tmp_path / "saved")))
    exec(code)  # noqa: S102
    folder, _ = fetch(tmp_path / "saved")
    saved = load_file(folder / "model.safetensors")
    assert saved.keys() == model.state_dict().keys()
    assert all(weights.equal(saved[name]) for name, weights in model.state_dict().items())
    assert encode(folder) == encode(mine)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (
            "albert",
            f"{CANNOT_USE}TypeError: 'dict' object is not an instance of 'Sequence'; save its tokenizer anew, or, ",
        ),
        ("bert", ": transformers' BertTokenizer does not tokenize as tokenizer.json does"),
        ("esm", ": esm needs the same padding token in its tokenizer and in config.json"),
        ("gpt2", ": gpt2 needs the same padding token"),
        ("llama", ": llama needs the same padding token"),
        ("modernbert", ": modernbert needs the same padding token"),
        ("roberta", ": transformers' RobertaTokenizer does not tokenize as tokenizer.json does"),
    ],
)
def test_the_settings_in_a_message_make_an_encoder_usable(mine, kind, fault):
    """The first message may be about the tokenizer's class, and the second about the padding token."""
    save(mine, kind, lowercase=False)
    messages = []
    while len(messages) < 3:
        try:
            folder, _ = fetch(mine)
            break
        except UserError as refused:
            messages.append(str(refused))
        for settings, file in re.findall(r"(\{.*?\}) to (\w+\.json)", messages[-1]):
            change(mine / file, json.loads(settings))
    assert any(fault in message for message in messages)
    assert encode(folder) == encode(mine)


def test_a_tokenizer_that_differs_only_in_rare_letters_is_refused(mine):
    save(mine, "bert")
    tokenizer = json.loads((mine / "tokenizer.json").read_text())
    tokenizer["normalizer"]["handle_chinese_chars"] = False
    change(mine / "tokenizer.json", tokenizer)
    with pytest.raises(
        UserError, match=r"transformers' BertTokenizer does not tokenize as tokenizer\.json does"
    ) as refused:
        fetch(mine)
    change(
        mine / "tokenizer_config.json", json.loads(re.search(r"(\{.*\}) to tokenizer_config", str(refused.value))[1])
    )
    folder, _ = fetch(mine)
    assert AutoTokenizer.from_pretrained(folder, trust_remote_code=False)("日本語")["input_ids"] == [2, 1, 3]


def test_an_encoder_with_another_number_of_embeddings_is_resized(mine):
    change(mine / "vocab.txt", join_vocabulary(*tiny.WORDS, "new"))
    with pytest.raises(UserError, match=r"if that is this one, save .* after `resize_token_embeddings\(41\)`$"):
        fetch(mine)
    model = AutoModel.from_pretrained(mine)
    model.resize_token_embeddings(41)
    model.save_pretrained(mine)
    fetch(mine)


@pytest.mark.parametrize("word", ["Word", "Слово"])
def test_a_note_about_lost_capitals_names_a_setting_that_keeps_them(mine, capsys, word):
    change(mine / "vocab.txt", join_vocabulary(*(f"{word}{number}" for number in range(35))))
    fetch(mine)
    note = capsys.readouterr().out
    assert "35 words of its vocabulary have capitals, and its tokenizer makes all letters small" in note
    change(mine / "tokenizer_config.json", re.search(r"\{.*\}", note)[0])
    folder, _ = fetch(mine)
    assert "have capitals" not in capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    assert tokenizer(f"{word}1")["input_ids"] == [2, 6, 3]


def test_weights_that_are_integers_are_refused(mine):
    weights = load_file(mine / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    save_file(weights | {name: weights[name].to(torch.int8)}, mine / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="has quantized weights, which cannot be fine-tuned"):
        fetch(mine)
    save_file(weights | {"embeddings.position_ids": torch.arange(64)}, mine / "model.safetensors", {"format": "pt"})
    fetch(mine)


def test_weights_that_the_model_leaves_out_are_named(mine, capsys):
    change(mine / "config.json", {"num_hidden_layers": 1})
    fetch(mine)
    note = capsys.readouterr().out
    assert "transformers leaves out 16 of the file's weights, such as encoder.layer.1.attention.output.Lay" in note


def test_a_tokenizer_without_special_tokens_is_refused(mine):
    save(mine, "bert")
    tokenizer = json.loads((mine / "tokenizer.json").read_text())
    change(mine / "tokenizer.json", {"post_processor": None})
    change(mine / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "[CLS]"})
    with pytest.raises(UserError, match=r"does not add \[CLS\], which the classifier reads: save it with a post-proc"):
        fetch(mine)
    change(mine / "tokenizer.json", tokenizer)
    change(mine / "tokenizer_config.json", {"pad_token": "[PAD]"})
    fetch(mine)


def test_bertweets_tokenizer_is_copied_with_both_of_its_files(mine):
    save(mine, "roberta")
    change(mine / "tokenizer.json", None)
    change(mine / "vocab.txt", "".join(f"{word} 1\n" for word in tiny.WORDS))
    change(mine / "bpe.codes", "#version: 0.2\nw o 3\nr d</w> 2\n")
    change(mine / "tokenizer_config.json", {"tokenizer_class": "BertweetTokenizer"})
    folder, names = fetch(mine)
    assert {"bpe.codes", "vocab.txt"} <= names
    assert encode(folder) == encode(mine)


def test_a_file_of_sentencepiece_needs_its_package(mine):
    save(mine, "deberta-v2")
    change(mine / "tokenizer.json", None)
    change(mine / "spm.model", "\n\x05")
    with pytest.raises(UserError, match=r"its .model file is sentencepiece's: run `pip install sentencepiece`$"):
        fetch(mine)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "mpnet"])
def test_an_encoder_without_a_tokenizer_is_refused_as_such(mine, kind):
    save(mine, kind)
    change(mine / "tokenizer.json", None)
    with pytest.raises(UserError, match=r"has no tokenizer: add (vocab.txt, or )?tokenizer.json$"):
        fetch(mine)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^fetch.encoder: ~nobody-here/bert is no folder"):
        encoders.copy("~nobody-here/bert", tmp_path)
    with pytest.raises(UserError, match=r"^fetch.encoder: ./nowhere is no folder"):
        download.fetch_encoder("./nowhere", None, tmp_path)
