from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from posjax.data import Batches, Labelled, TextPairs
from posjax.errors import InputError
from tests.data.tokenizers_of_tests import by_bytes, by_words

pytestmark = pytest.mark.versionless

LINES = [f"source {n}\ttarget {'x' * n}" for n in range(40)]


def written(folder: Path, text: str) -> str:
    path = folder / "lines.tsv"
    path.write_text(text)
    return str(path)


def pairs(folder: Path, **fields) -> TextPairs:
    return TextPairs(written(folder, "\n".join(LINES) + "\n\r\n"), source_length=12, validation_share=0.3, **fields)


def labelled(folder: Path, **fields) -> Labelled:
    lines = [f"{'bad' if n % 3 else 'good'}\ttext {n}" for n in range(40)]
    return Labelled(written(folder, "\r\n".join(lines)), validation_share=0.3, **fields)


def test_each_pair_is_there_once_an_epoch_and_on_one_side(tmp_path):
    examples = pairs(tmp_path).load()
    assert len(examples.train) + len(examples.validation) == 40 and 5 < len(examples.validation) < 20
    rows = examples.rows(50, 0)
    count = len(examples.train)
    for epoch in (0, 3):
        found = Counter()
        for place in range(epoch * count, (epoch + 1) * count):
            row = rows[place]
            source = bytes(row["source"][row["real"]].tolist()).decode()
            size = int(row["weights"].sum())
            target = bytes(row["targets"][: size - 1].tolist()).decode()
            assert row["inputs"][0] == row["targets"][size - 1] == 256
            np.testing.assert_array_equal(row["inputs"][1:size], row["targets"][: size - 1])
            found[f"{source}\t{target}"] += 1
        assert set(found.values()) == {1}
    held = examples.validation_rows(50, len(examples.validation), 0)
    sources = {bytes(source[real].tolist()).decode() for source, real in zip(held["source"], held["real"], strict=True)}
    assert len(sources) == len(examples.validation)
    assert sources.isdisjoint(line.partition("\t")[0] for line in found)


def test_two_files_hold_the_pairs_of_their_lines(tmp_path):
    sources, targets = tmp_path / "a.txt", tmp_path / "b.txt"
    sources.write_bytes(b"ab\r\n\nxy\n")
    targets.write_bytes(b"cde\n\nz")
    examples = TextPairs(str(sources), source_length=3, targets=str(targets)).load()
    together = {(bytes(e.first), bytes(e.second)) for e in (*examples.train, *examples.validation)}
    assert together == {(b"ab", b"cde"), (b"xy", b"z")}
    for wrong, said in ((b"cde\nz", "3 lines and .* has 2"), (b"cde\nq\nz", "line 2 is blank in one of")):
        targets.write_bytes(wrong)
        with pytest.raises(InputError, match=said):
            TextPairs(str(sources), source_length=3, targets=str(targets)).load()
    with pytest.raises(InputError, match="targets=''"):
        TextPairs(str(sources), source_length=3, targets="")


def test_a_batch_is_the_same_in_any_split(tmp_path):
    for data in (pairs(tmp_path), labelled(tmp_path)):
        whole = Batches(data.load().rows(60, 3), 6).batch(11)
        parts = [Batches(data.load().rows(60, 3), 6).rows(11, start, start + 2) for start in (0, 2, 4)]
        for name, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)


def test_pairs_in_tokens(tmp_path):
    data = pairs(tmp_path, tokenizer=str(by_bytes(tmp_path)))
    reader = data.reader()
    assert reader is not None and data.vocabulary == reader.vocabulary
    row = data.load().validation_rows(60, 1, 0)
    source, size = row["source"][0][row["real"][0]], int(row["weights"][0].sum())
    assert reader.decode(source).startswith("source ")
    assert reader.decode(row["targets"][0][: size - 1]).startswith("target ")
    assert row["inputs"][0, 0] == row["targets"][0, size - 1] == reader.separator


def test_labels_are_classes_in_order(tmp_path):
    data = labelled(tmp_path)
    assert data.classes == ("bad", "good")
    rows = data.load().validation_rows(10, 9, 0)
    np.testing.assert_array_equal(rows["segments"], rows["positions"] >= 0)
    assert rows["classes"].shape == (9,) and rows["classes"].dtype == np.int32
    for tokens, positions, number in zip(rows["inputs"], rows["positions"], rows["classes"], strict=True):
        size = int((positions >= 0).sum())
        assert positions.tolist() == [*range(size), *[-1] * (10 - size)] and not tokens[size:].any()
        text = bytes(tokens[:size].tolist()).decode()
        assert (int(text.split()[1]) % 3 == 0) == (number == 1)


def test_labelled_texts_begin_as_those_of_a_text_do(tmp_path):
    data = labelled(tmp_path, tokenizer=str(by_bytes(tmp_path)), begin="<s>")
    reader = data.reader()
    assert reader is not None
    assert (data.load().validation_rows(20, 4, 0)["inputs"][:, 0] == reader.begin).all()


def test_the_fingerprint_follows_lines_and_split(tmp_path):
    found = {pairs(tmp_path).load().fingerprint, pairs(tmp_path, tokenizer=str(by_bytes(tmp_path))).load().fingerprint}
    LINES.append("one\tmore")
    found.add(pairs(tmp_path).load().fingerprint)
    LINES.pop()
    assert len(found) == 3 and pairs(tmp_path).load().fingerprint in found


WRONG = {
    "no tab": ("a\tb\nab\nc\td", "line 2 is 'ab'"),
    "two tabs": ("a\tb\nc\td\te", "line 2 is"),
    "an empty side": ("a\tb\na\t\n", "line 2 is"),
    "one line": ("a\tb\n", "has 1 examples"),
    "nothing": ("", "has 0 examples"),
    "binary": ("a\tb\n\0\tc", "binary"),
    "too long": ("a\tb\nc\t" + "d" * 9, "line 2 has a"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_line_is_told_by_its_number(tmp_path, what):
    text, told = WRONG[what]
    path = written(tmp_path, text)
    for data in (TextPairs(path, source_length=9), Labelled(path)):
        with pytest.raises(InputError, match=told) as refused:
            data.load().rows(8, 0)
        assert "\n" not in str(refused.value) and path in str(refused.value)


def test_mistakes_are_refused(tmp_path):
    path = written(tmp_path, "a\tb\na\tc\n")
    with pytest.raises(InputError, match="one label 'a'"):
        Labelled(path).load()
    with pytest.raises(InputError, match="did you mean"):
        TextPairs(path[:-1], source_length=9).load()
    with pytest.raises(InputError, match="no tokenizer"):
        Labelled(path, begin="<s>")
    with pytest.raises(InputError, match=r"validation_share=0\.0"):
        Labelled(path, validation_share=0.0)
    with pytest.raises(InputError, match="source_length=0"):
        TextPairs(path, source_length=0)
    with pytest.raises(InputError, match="path=''"):
        TextPairs("", source_length=1)
    with pytest.raises(InputError, match="ask for 1 or more"):
        TextPairs(path, source_length=1).load().validation_rows(8, 0, 0)
    spaces = written(tmp_path, "a\tonce\nb\t  \n")
    with pytest.raises(InputError, match="line 2 has a side without a token"):
        Labelled(spaces, tokenizer=str(by_words(tmp_path))).load()
