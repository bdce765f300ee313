import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from posjax.data import (
    StoredText,
    Text,
    columns,
    prepare,
    prepared,
    preparing,
    target_bytes,
    tokenizer,
    training_windows,
    utf8,
    validation_windows,
)
from posjax.errors import Busy, InputError, StorageError
from posjax.evaluation.statistics import yardsticks
from posjax.files import owned
from tests.data.test_corpus import fill
from tests.data.tokenizers_of_tests import TEXT, by_bytes, by_characters, by_words

pytestmark = pytest.mark.versionless

KINDS = {"bytes": None, "by bytes": by_bytes, "by characters": by_characters, "by words": by_words}
STORY = (TEXT * 30).encode()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Blocks, shards and chunks of a few bytes, so that a small text has many of each."""
    monkeypatch.setattr(columns, "BLOCK", 64)
    monkeypatch.setattr(columns, "SHARD", 512)
    monkeypatch.setattr(utf8, "CHUNK", 101)
    monkeypatch.setattr(tokenizer, "BLOCK", 256)
    monkeypatch.setattr(tokenizer, "MARGIN", 64)
    monkeypatch.setattr(preparing, "SPOOL", 4096)


def story(folder: Path) -> Path:
    """Files of several sizes, and what counts as no text."""
    parts = {f"{n:02}.txt": STORY[: 150 * n].decode(errors="ignore").encode() for n in range(1, 9)}
    return fill(folder, parts | {"empty.txt": b"", "binary": b"a\0b", ".hidden": b"no", "sub/x.txt": STORY})


def same(one, other, length: int) -> None:
    """Two corpora that nothing tells apart which reads them."""
    assert one.describe() == other.describe()
    assert one.unit == other.unit and one.tokens.begin == other.tokens.begin
    for seed in (0, 3):
        ours, theirs = training_windows(one, length, seed), training_windows(other, length, seed)
        for index in (0, 1, 77, 2**30):
            mine, its = ours[index], theirs[index]
            assert mine is not None and its is not None
            for name, array in mine.items():
                np.testing.assert_array_equal(array, its[name], strict=True)
        for cut in (validation_windows, target_bytes):
            np.testing.assert_array_equal(cut(one, length, 9, seed), cut(other, length, 9, seed), strict=True)
    windows = validation_windows(one, length, 5, 0)
    assert yardsticks(one, windows, 3) == yardsticks(other, windows, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("single", [False, True], ids=["folder", "file"])
def test_a_prepared_text_is_read_as_the_text_itself(tmp_path, kind, single):
    source = story(tmp_path / "story")
    if single:
        source = source / "sub/x.txt"
    reader = begin = None
    if KINDS[kind] is not None:
        reader = str(KINDS[kind](tmp_path))
        begin = {"by words": None}.get(kind, "<s>")
    for start in {None, begin}:
        text = Text((str(source),), 0.3, reader, start)
        made = tmp_path / f"made {start}"
        prepare(text, made)
        assert StoredText(str(made)).vocabulary == text.vocabulary
        same(text.load(), StoredText(str(made)).load(), length=11)
        assert len(list(made.glob("train-tokens-*.bin"))) > 1


def test_blocks_that_differ_begin_a_file_anew(tmp_path):
    """A tokenizer of words of any length: no border of a block inside one can be agreed about."""
    source = fill(tmp_path / "long", {"a.txt": b"x" * 700 + b" it was", "b.txt": b"it " * 40, "c.txt": b"a time " * 40})
    text = Text((str(source),), 1e-9, str(by_words(tmp_path)))
    reader = text.reader()
    assert reader is not None and None in list(reader.blocks("x" * 700))
    prepare(text, tmp_path / "made")
    same(text.load(), StoredText(str(tmp_path / "made")).load(), length=1)


def test_the_tokenizer_goes_with_the_folder(tmp_path):
    path = by_bytes(tmp_path)
    text = Text((str(story(tmp_path / "story")),), 0.3, str(path), "<s>")
    prepare(text, tmp_path / "made")
    path.unlink()
    reader = StoredText(str(tmp_path / "made")).reader()
    assert reader is not None and reader.decode(reader.encode("It was")[0]) == "It was"
    prepare(Text((str(tmp_path / "story"),)), tmp_path / "bytes")
    assert StoredText(str(tmp_path / "bytes")).reader() is None


def made_of(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    prepare(Text((str(story(tmp_path / "story")),), 0.3), made)
    return made


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit(path: Path) -> None:
    header = json.loads(path.read_text())
    path.write_text(json.dumps(header | {"vocabulary": 300}))


def of_the_future(path: Path) -> None:
    header = json.loads(path.read_text())
    path.write_text(json.dumps(header | {"format": 2}))


DAMAGE = {
    "a shard cut off": ("train-tokens-001.bin", cut_off, "bytes of"),
    "a shard gone": ("train-tokens-001.bin", Path.unlink, "No such file"),
    "a shard changed": ("train-tokens-001.bin", flip, "are not what was prepared"),
    "an offset changed": ("train-starts-000.bin", flip, "are not what was prepared"),
    "validation changed": ("validation-tokens-000.bin", flip, "are not what was prepared"),
    "checksums changed": ("train-tokens.crc", flip, "is not what was prepared"),
    "checksums gone": ("validation-starts.crc", Path.unlink, "No such file"),
    "a header edited": ("prepared.json", edit, "is not what was prepared"),
    "a header cut off": ("prepared.json", lambda path: os.truncate(path, 40), "damaged"),
    "a header of another format": ("prepared.json", of_the_future, "of format 2"),
    "no header": ("prepared.json", Path.unlink, "being prepared, or that was interrupted"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_told_in_one_line_and_never_read(tmp_path, what):
    made = made_of(tmp_path)
    name, damage, told = DAMAGE[what]
    damage(made / name)
    with pytest.raises(InputError, match=told) as refused:
        documents = StoredText(str(made)).load()
        windows = training_windows(documents, 50, 0)
        for index in range(400):
            windows[index]
        validation_windows(documents, 50, 100, 0)
    assert "\n" not in str(refused.value) and str(made) in str(refused.value)


def test_a_changed_tokenizer_is_refused(tmp_path):
    text = Text((str(story(tmp_path / "story")),), 0.3, str(by_bytes(tmp_path)))
    prepare(text, tmp_path / "made")
    flip(tmp_path / "made/tokenizer.json")
    with pytest.raises(InputError, match="not what was prepared"):
        StoredText(str(tmp_path / "made")).load()


def test_a_shard_that_is_cut_off_while_it_is_read_is_told(tmp_path):
    made = made_of(tmp_path)
    windows = training_windows(StoredText(str(made)).load(), 600, 0)
    os.truncate(made / "train-tokens-001.bin", 0)
    with pytest.raises(InputError, match="not what was prepared"):
        for index in range(100):
            windows[index]


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path):
    text = Text((str(story(tmp_path / "story")),))
    fill(tmp_path / "mine", {"thesis.tex": b"years of work"})
    with pytest.raises(InputError, match=r"holds thesis.tex"):
        prepare(text, tmp_path / "mine")
    with pytest.raises(InputError, match="is a file"):
        prepare(text, tmp_path / "mine/thesis.tex")
    assert sorted(os.listdir(tmp_path / "mine")) == ["thesis.tex"]
    # Called as a preparation's own, in a folder that none has begun.
    for name in ("tokenizer.json", "train-tokens-001.bin", "train-mine-001.bin"):
        fill(tmp_path / name, {name: b"mine"})
        with pytest.raises(InputError, match=f"holds {name}"):
            prepare(text, tmp_path / name)
        assert (tmp_path / name / name).read_bytes() == b"mine"


def test_the_same_command_again_does_nothing_and_another_is_refused(tmp_path):
    made = made_of(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in made.glob("*.bin")}
    header = prepare(Text((str(tmp_path / "story"),), 0.3), made)
    assert header == prepared.read_header(made)
    assert before == {path: path.stat().st_mtime_ns for path in made.glob("*.bin")}
    with pytest.raises(InputError, match="from other files, or in another way"):
        prepare(Text((str(tmp_path / "story"),), 0.2), made)
    fill(tmp_path / "story", {"new.txt": b"more"})
    with pytest.raises(InputError, match="from other files, or in another way"):
        prepare(Text((str(tmp_path / "story"),), 0.3), made)


def test_one_process_at_a_time_prepares_a_folder(tmp_path):
    text = Text((str(story(tmp_path / "story")),))
    # Another thread is refused as another process is.
    with owned(tmp_path / "made"), ThreadPoolExecutor(1) as other, pytest.raises(Busy):
        other.submit(prepare, text, tmp_path / "made").result()
    prepare(text, tmp_path / "made")


def test_a_preparation_killed_anywhere_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    text = Text((str(story(tmp_path / "story")),), 0.3)
    write = columns.ColumnWriter._write
    for stop in (1, 7, 20, 40):
        # Blocks that are still written before it is killed.
        left = iter(range(stop))

        def until(self, content, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            write(self, content)

        monkeypatch.setattr(columns.ColumnWriter, "_write", until)
        with pytest.raises(KeyboardInterrupt):
            prepare(text, tmp_path / "made")
        with pytest.raises(InputError, match="being prepared, or that was interrupted"):
            StoredText(str(tmp_path / "made")).load()
    monkeypatch.setattr(columns.ColumnWriter, "_write", write)
    # What a larger text has left behind goes too.
    fill(tmp_path / "made", {"train-tokens-099.bin": b"old"})
    prepare(text, tmp_path / "made")
    assert not (tmp_path / "made/train-tokens-099.bin").exists()
    same(text.load(), StoredText(str(tmp_path / "made")).load(), length=11)


def killed(text, folder, monkeypatch):
    """A preparation that is killed before its header is written."""

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(preparing, "write_json", kill)
        prepare(text, folder)


def test_the_tokenizer_that_a_killed_preparation_left_may_be_read(tmp_path, monkeypatch):
    made, path = tmp_path / "made", by_words(tmp_path)
    killed(Text((str(story(tmp_path / "story")),), tokenizer=str(path)), made, monkeypatch)
    content = path.read_bytes()
    # It may be the only copy by now.
    path.unlink()
    prepare(Text((str(tmp_path / "story"),), tokenizer=str(made / "tokenizer.json")), made)
    assert (made / "tokenizer.json").read_bytes() == content
    StoredText(str(made)).load()


def test_a_text_is_not_prepared_where_it_lies(tmp_path, monkeypatch):
    made, path = tmp_path / "made", by_words(tmp_path)
    killed(Text((str(story(tmp_path / "story")),), tokenizer=str(path)), made, monkeypatch)
    content = (made / "tokenizer.json").read_bytes()
    with pytest.raises(InputError, match="lies in"):
        prepare(Text((str(made / "tokenizer.json"),)), made)
    assert (made / "tokenizer.json").read_bytes() == content


def test_a_full_disk_is_told_as_one(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(columns.ColumnWriter, "_write", full)
    with pytest.raises(StorageError, match="No space left"):
        prepare(Text((str(story(tmp_path / "story")),)), tmp_path / "made")


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    path = fill(tmp_path, {"a.txt": STORY * 20}) / "a.txt"
    reading = utf8.chunks(path, 0, 20 * len(STORY))
    next(reading)
    os.truncate(path, 150)
    with pytest.raises(InputError, match="became shorter"):
        list(reading)


def test_a_file_that_is_not_utf8_is_told_where(tmp_path):
    source = fill(tmp_path / "source", {"a.txt": b"it was " * 50 + b"\xff", "b.txt": b"a time"})
    for path in (source, source / "a.txt"):
        text = Text((str(path),), 0.3, str(by_bytes(tmp_path)))
        with pytest.raises(InputError, match=r"a\.txt is not UTF-8 at byte"):
            prepare(text, tmp_path / "made")
        with pytest.raises(InputError, match=r"a\.txt is not UTF-8 at byte"):
            text.load()


def test_characters_are_found_by_their_number(tmp_path):
    content = "añ日😀" * 200
    path = fill(tmp_path, {"a.txt": b"xx" + content.encode() + b"yy"}) / "a.txt"
    text = utf8.Utf8File.open(path, "a.txt", 2, 2 + len(content.encode()))
    assert len(text) == len(content) and text[:] == content
    for start in range(0, 800, 37):
        for size in (0, 1, 5, 200):
            assert text[start : start + size] == content[start : start + size]


def test_mistakes_are_refused(tmp_path):
    with pytest.raises(InputError, match="did you mean"):
        (tmp_path / "folder").mkdir()
        StoredText(str(tmp_path / "foldr")).load()
    with pytest.raises(InputError, match="2 or more are needed"):
        prepare(Text((str(fill(tmp_path / "none", {"a.txt": b"a", "b": b"\0"})),)), tmp_path / "made")
    with pytest.raises(InputError, match="StoredText got folder=''"):
        StoredText("")
    named = fill(tmp_path / "none", {"b": b"\0"}) / "b"
    with pytest.raises(InputError, match="is binary"):
        prepare(Text((str(named),)), tmp_path / "made")


def test_opening_reads_no_token(tmp_path, monkeypatch):
    made = made_of(tmp_path)
    read, original = [], columns._part
    monkeypatch.setattr(columns, "_part", lambda path, *at: read.append(path.name) or original(path, *at))
    documents = StoredText(str(made)).load()
    training_windows(documents, 11, 0)
    assert {name.rpartition("-")[0] for name in read} == {"train-starts", "validation-starts"}
