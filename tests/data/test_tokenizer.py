"""Text to tokens: what is encoded, how many bytes each token stands for, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from posjax.data import Text, begun, read_tokenizer, target_bytes, tokenizer, training_windows, validation_windows
from posjax.errors import InputError
from tests.data.tokenizers_of_tests import TEXT, by_bytes, by_characters, by_words, package

pytestmark = pytest.mark.versionless

PUBLISHED = Path(__file__).parents[3] / "shared/checkpoints"
KINDS = pytest.mark.parametrize("kind", (by_bytes, by_characters, by_words))


def prefix_bytes(path: Path, text: str, count: int) -> int:
    """The bytes that the first `count` tokens stand for, asked of the package: what they decode to."""
    rules = package().Tokenizer.from_file(str(path))
    ids = rules.encode(text, add_special_tokens=False).ids[:count]
    pieces = [rules.id_to_token(number) for number in ids]
    if path.name == "bytes.json":
        return sum(len(piece) for piece in pieces)  # One character of the spelling is one byte.
    sizes = [1 if piece.startswith("<0x") else len(piece.replace("▁", " ").encode()) for piece in pieces]
    return sum(sizes) - 1  # The mark in front stands for nothing.


@KINDS
def test_a_text_is_what_the_package_makes_of_it(tmp_path, kind):
    path = kind(tmp_path)
    tokens, sizes = read_tokenizer(path).encode(TEXT)
    rules = package().Tokenizer.from_file(str(path))
    assert tokens.tolist() == rules.encode(TEXT, add_special_tokens=False).ids
    assert len(sizes) == len(tokens) and sizes.sum() == len(TEXT.encode())
    assert tokens.dtype == sizes.dtype == np.int32


@pytest.mark.parametrize("kind", (by_bytes, by_characters))
def test_the_bytes_of_every_prefix_are_exact(tmp_path, kind):
    path = kind(tmp_path)
    _, sizes = read_tokenizer(path).encode(TEXT)
    assert np.cumsum(sizes).tolist() == [prefix_bytes(path, TEXT, count + 1) for count in range(len(sizes))]


def test_what_is_dropped_counts_to_the_token_behind_it_and_at_the_end_to_the_last(tmp_path):
    _, sizes = read_tokenizer(by_words(tmp_path)).encode("  Once théâtre, a ")
    assert sizes.tolist() == [6, 10, 1, 3]


@KINDS
def test_blocks_change_nothing(tmp_path, kind, monkeypatch):
    text = TEXT * 40
    reader = read_tokenizer(kind(tmp_path))
    whole = reader.encode(text)
    monkeypatch.setattr(tokenizer, "BLOCK", 100)
    monkeypatch.setattr(tokenizer, "MARGIN", 30)
    for one, other in zip(whole, reader.encode(text), strict=True):
        np.testing.assert_array_equal(one, other)


def test_blocks_that_differ_at_their_border_are_widened(tmp_path, monkeypatch):
    # A single word of a thousand letters: no border of blocks lies between two tokens.
    text = "a time " + "x" * 1000 + " once a time"
    reader = read_tokenizer(by_words(tmp_path))
    monkeypatch.setattr(tokenizer, "BLOCK", 100)
    monkeypatch.setattr(tokenizer, "MARGIN", 30)
    tokens, sizes = reader.encode(text)
    assert tokens.tolist() == [2, 3, 0, 1, 2, 3] and sizes.tolist() == [1, 5, 1001, 5, 2, 5]


def test_an_empty_text_has_no_tokens(tmp_path):
    tokens, sizes = read_tokenizer(by_bytes(tmp_path)).encode("")
    assert len(tokens) == len(sizes) == 0


def test_special_tokens_are_neither_added_nor_read_out_of_the_text(tmp_path):
    path = by_characters(tmp_path)
    tokens, _ = read_tokenizer(path).encode("<s>")
    assert 1 not in tokens and len(tokens) == 4  # The mark in front, and three characters.
    tokens, sizes = read_tokenizer(path, begin="<s>").encode("the")
    assert tokens.tolist()[0] == 1 and sizes.tolist() == [0, 1, 2]
    assert read_tokenizer(path, begin="<s>").decode(tokens) == "the"


def test_a_file_cannot_ask_for_texts_to_be_cut(tmp_path):
    path = by_bytes(tmp_path)
    rules = package().Tokenizer.from_file(str(path))
    rules.enable_truncation(4)
    rules.enable_padding(length=500)
    rules.save(str(path))
    _, sizes = read_tokenizer(path).encode(TEXT)
    assert sizes.sum() == len(TEXT.encode()) and len(sizes) < 500


def write(folder: Path, name: str, content: str) -> str:
    folder.joinpath(name).write_bytes(content.encode())
    return str(folder / name)


def test_files_are_told_apart_by_a_token_of_our_own_or_begin_with_theirs(tmp_path):
    paths = tuple(write(tmp_path, f"{number}.txt", "the time " * (5 + number)) for number in range(4))
    path = by_characters(tmp_path)
    plain = Text(paths, 0.3, tokenizer=str(path)).load()
    size = package().Tokenizer.from_file(str(path)).get_vocab_size()
    assert plain.tokens.vocabulary == size + 1 == Text(paths, tokenizer=str(path)).vocabulary
    assert plain.tokens.separator == size and all(size not in file for file in plain.tokens.train)
    data = Text(paths, 0.3, tokenizer=str(path), begin="<s>")
    begins = data.load()
    assert begins.tokens.vocabulary == size == data.vocabulary and begins.tokens.separator is None
    for ours, theirs in zip(begins.tokens.train, plain.tokens.train, strict=True):
        assert ours.tolist() == [1, *theirs.tolist()]
    assert plain.describe()["train_tokens"] == sum(map(len, plain.tokens.train))
    # Each window begins with the token too, in training and in evaluation, and its targets are the text.
    rows = [training_windows(begins, 8, seed=0)[index] for index in range(20)]
    assert all(row["inputs"][0] == 1 for row in rows)
    assert any(1 in row["inputs"][1:] for row in training_rows(begins, 200))
    windows = validation_windows(begins, 6, 5, seed=0)
    np.testing.assert_array_equal(begun(begins, windows)[:, 1:], windows[:, 1:])
    assert set(begun(begins, windows)[:, 0]) == {1} and set(windows[:, 0]) != {1}


def training_rows(documents, count):
    rows = training_windows(documents, 30, seed=0)
    return [rows[index] for index in range(count)]


def test_the_bytes_of_targets_are_those_of_the_windows(tmp_path):
    data = Text((write(tmp_path, "a.txt", TEXT * 20),), 0.5, tokenizer=str(by_characters(tmp_path)))
    documents = data.load()
    windows = validation_windows(documents, 25, 9, seed=3)
    sizes = target_bytes(documents, 25, 9, seed=3)
    ((file,), (of_file,)) = documents.tokens.validation, documents.tokens.validation_bytes
    assert of_file.sum() == len(documents.validation[0])
    text = file.tolist()
    for window, found in zip(windows.tolist(), sizes.tolist(), strict=True):
        starts = [start for start in range(len(text)) if text[start : start + 26] == window]
        assert any(of_file[start + 1 : start + 26].tolist() == found for start in starts)


def test_a_single_file_is_split_between_two_characters(tmp_path):
    data = Text((write(tmp_path, "a.txt", "é日" * 30),), 0.5, tokenizer=str(by_bytes(tmp_path)))
    for share in (0.001, 0.49, 0.5, 0.51, 0.999):
        documents = Text(data.paths, share, data.tokenizer).load()
        (train,), (validation,) = documents.train, documents.validation
        assert train and validation and (train + validation).decode() == "é日" * 30 and train.decode()


def test_the_fingerprint_tells_text_and_tokenizer_apart(tmp_path):
    paths = (write(tmp_path, "a.txt", TEXT * 3),)
    tokenizer_file = by_characters(tmp_path)
    data = Text(paths, tokenizer=str(tokenizer_file))
    text, _, first = data.load().fingerprint.partition("-")
    assert text == Text(paths).load().fingerprint
    assert first == data.reader().fingerprint
    assert Text(paths, tokenizer=data.tokenizer, begin="<s>").load().fingerprint != data.load().fingerprint
    tokenizer_file.write_text(tokenizer_file.read_text() + " ")
    changed, _, second = data.load().fingerprint.partition("-")
    assert changed == text and second != first


def refused(path: Path | str, **others: str) -> str:
    with pytest.raises(InputError) as why:
        read_tokenizer(Path(path), **others)
    assert "\n" not in str(why.value)
    return str(why.value)


def test_what_is_no_tokenizer_is_refused_in_one_line(tmp_path):
    path = by_characters(tmp_path)
    content = path.read_text()
    assert f"did you mean {path}?" in refused(tmp_path / "character.json")
    assert "is a folder: name the file in it" in refused(tmp_path)
    for wrong in ("", "{}", content[: len(content) // 2], content[:-9], '["a"]', "\0"):
        assert "is no tokenizer file, or not whole" in refused(write(tmp_path, "bad.json", wrong))
    tmp_path.joinpath("bad.model").write_bytes(b"\xff\xfe\0")
    assert "is no tokenizer file" in refused(tmp_path / "bad.model")
    assert "no token '<begin>'" in (said := refused(path, begin="<begin>")) and "'<unk>', '<s>'" in said
    tree = json.loads(content)
    tree["model"]["dropout"] = 0.1
    assert "set dropout to null" in refused(write(tmp_path, "random.json", json.dumps(tree)))


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert "pip install 'posjax[hf]'" in refused(tmp_path / "tokenizer.json")


def test_a_text_that_does_not_fit_its_tokenizer_is_refused(tmp_path):
    with pytest.raises(InputError, match="begin='<s>' and no tokenizer"):
        Text(("a.txt",), begin="<s>")
    with pytest.raises(InputError, match="tokenizer=''"):
        Text(("a.txt",), tokenizer="")
    tmp_path.joinpath("latin.txt").write_bytes("thé".encode("latin-1") * 9)
    with pytest.raises(InputError, match=r"latin.txt is not UTF-8 at byte 2"):
        Text((str(tmp_path / "latin.txt"),), 0.5, tokenizer=str(by_bytes(tmp_path))).load()
    short = Text((write(tmp_path, "a.txt", "the time the time"),), 0.5, tokenizer=str(by_characters(tmp_path))).load()
    with pytest.raises(InputError, match="tokens, but a window of length 99"):
        validation_windows(short, 99, 1, 0)


@pytest.mark.parametrize("model", ("stories260K", "babyllama105"))
def test_published_tokenizers_read_the_published_prompt(model):
    if not PUBLISHED.is_dir():
        pytest.skip(f"{PUBLISHED} is not here: published checkpoints are no part of the repository")
    package()
    expected = json.loads((PUBLISHED / "expected.json").read_text())[model]
    reader = read_tokenizer(PUBLISHED / model / "tokenizer.json", begin="<s>")
    tokens, sizes = reader.encode(expected["prompt"])
    assert tokens.tolist() == expected["prompt_tokens"] and sizes.sum() == len(expected["prompt"])
    continued = np.concatenate([tokens, expected["greedy_tokens"]])
    assert reader.decode(continued) == expected["greedy_text"]
