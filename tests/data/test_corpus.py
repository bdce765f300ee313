import hashlib
import itertools
import os
import sysconfig
from pathlib import Path

import pytest

from posjax.data import SEPARATOR, StandardLibrary, Text
from posjax.errors import InputError

pytestmark = pytest.mark.versionless


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def held_out(key: str, share: float) -> bool:
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) < share * 2**32


def numbered(count: int) -> dict[str, bytes]:
    return {f"{index:03}.txt": f"text {index}".encode() for index in range(count)}


def test_the_standard_library_is_on_every_machine():
    documents = StandardLibrary().load()
    sizes = documents.describe()
    assert sizes["train_bytes"] > 5_000_000
    assert 0.03 < sizes["validation_bytes"] / sizes["train_bytes"] < 0.3
    assert max(map(len, documents.validation)) > 16_384
    assert sizes["fingerprint"] == StandardLibrary().load().fingerprint
    decimal = Path(sysconfig.get_path("stdlib"), "_pydecimal.py").read_bytes()
    assert decimal in (documents.validation if held_out("_pydecimal.py", 0.1) else documents.train)


def test_only_the_librarys_own_source_counts(tmp_path, monkeypatch):
    kept = {"b.py": b"b", "a/c.py": b"c", "a.py": b"a", "testing/d.py": b"d"}
    folders = (
        "site-packages dist-packages test a/tests a/test/deep idlelib lib2to3 pydoc_data __pycache__ config-3.11-x86"
    )
    left_out = ["lib.so", *(f"{folder}/x.py" for folder in folders.split())]
    fill(tmp_path, kept | dict.fromkeys(left_out, b"wrong") | {"empty.py": b""})
    monkeypatch.setattr(sysconfig, "get_path", {"stdlib": str(tmp_path)}.__getitem__)
    documents = StandardLibrary(validation_share=1e-9).load()
    assert sorted(documents.train + documents.validation) == [b"a", b"b", b"c", b"d"]
    # Of "a.py", "a/c.py", "b.py", "testing/d.py", the order of paths, one went to validation.
    assert list(documents.train) == sorted(documents.train, key=[b"a", b"c", b"b", b"d"].index)


def test_a_machine_without_its_source_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", {"stdlib": str(tmp_path / "no")}.__getitem__)
    with pytest.raises(InputError, match=r"no source files in .*Text\(paths"):
        StandardLibrary().load()


def test_the_split_is_by_path_alone(tmp_path):
    files = numbered(60)
    one = Text((str(fill(tmp_path / "one", files)),), 0.3).load()
    expected = [content for key, content in files.items() if held_out(key, 0.3)]
    assert list(one.validation) == expected
    assert list(one.train) == [content for key, content in files.items() if not held_out(key, 0.3)]
    more = Text((str(fill(tmp_path / "two", files | {"zzz/new.txt": b"new"})),), 0.3).load()
    assert set(one.validation) <= set(more.validation) and set(one.train) <= set(more.train)


def test_files_come_in_the_order_of_their_paths(tmp_path):
    folder = fill(tmp_path, {name: name.encode() for name in ("c", "a/z", "b/y", "a/b/x", "B")})
    documents = Text((str(folder),), 1e-9).load()
    order = [b"B", b"a/b/x", b"a/z", b"b/y", b"c"]
    assert sorted(documents.train, key=order.index) == list(documents.train)
    assert {*documents.train, *documents.validation} == set(order)


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_no_side_of_the_split_stays_empty(tmp_path, share):
    folder = fill(tmp_path, numbered(5))
    one, again = (Text((str(folder),), share).load() for _ in range(2))
    assert sorted((len(one.train), len(one.validation))) == [1, 4]
    assert (one.train, one.validation) == (again.train, again.validation)
    moved, rest = sorted((one.train, one.validation), key=len)
    hashes = {content: hashlib.sha256(key.encode()).hexdigest() for key, content in numbered(5).items()}
    pick = min if share < 0.5 else max
    assert moved == (pick(hashes, key=lambda content: hashes[content]),)
    assert len(rest) == 4


def test_a_single_file_is_split_by_position(tmp_path):
    fill(tmp_path, {"poem.txt": bytes(range(1, 101))})
    for path in (tmp_path, tmp_path / "poem.txt"):
        documents = Text((str(path),), 0.2).load()
        assert documents.train == (bytes(range(1, 81)),)
        assert documents.validation == (bytes(range(81, 101)),)
    tiny = Text((str(fill(tmp_path / "tiny", {"a": b"ab"})),), 0.01).load()
    assert (tiny.train, tiny.validation) == ((b"a",), (b"b",))


def test_what_is_no_text_is_passed_over_in_folders(tmp_path):
    files = numbered(9) | {".hidden": b"no", ".git/config": b"no", "image.png": b"a\0b", "empty": b""}
    documents = Text((str(fill(tmp_path, files)),)).load()
    assert sorted(documents.train + documents.validation) == sorted(numbered(9).values())


def test_an_unreadable_file_is_passed_over_in_folders_but_not_when_named(tmp_path, monkeypatch):
    folder = fill(tmp_path, numbered(9))
    opened = Path.open

    def refuse(path, *given, **named):
        if path.name == "003.txt":
            raise PermissionError(13, "Permission denied")
        return opened(path, *given, **named)

    monkeypatch.setattr(Path, "open", refuse)
    documents = Text((str(folder),)).load()
    assert sorted(documents.train + documents.validation) == sorted({**numbered(9), "003.txt": b""}.values())[1:]
    with pytest.raises(InputError, match=r"003\.txt cannot be read \(Permission denied\)"):
        Text((str(folder / "003.txt"),)).load()


def test_a_file_that_is_reached_twice_counts_once(tmp_path):
    folder = fill(tmp_path, numbered(9) | {"sub/x.txt": b"x"})
    once = Text((str(folder),)).load()
    twice = Text((str(folder), str(folder / "sub"), str(folder / "004.txt"))).load()
    assert (once.train, once.validation, once.fingerprint) == (twice.train, twice.validation, twice.fingerprint)


def test_a_hidden_folder_that_is_named_counts(tmp_path):
    documents = Text((str(fill(tmp_path / ".notes", numbered(4))),)).load()
    assert len(documents.train + documents.validation) == 4


def test_the_fingerprint_follows_paths_contents_and_split_but_not_place(tmp_path):
    def fingerprint(name, files, share=0.3):
        return Text((str(fill(tmp_path / name, files)),), share).load().fingerprint

    files = numbered(20)
    one = fingerprint("one", files)
    assert len(one) == 16 and int(one, 16) >= 0
    assert fingerprint("two", files) == one
    others = [
        fingerprint("content", files | {"007.txt": b"text 8"}),
        fingerprint("path", {f"p{name}": content for name, content in files.items()}),
        fingerprint("one", files, share=0.7),
    ]
    assert len({one, *others}) == 4
    # The same bytes under another name of the same length.
    assert fingerprint("a", {"a": b"text"}) != fingerprint("b", {"b": b"text"})


def test_the_fingerprint_follows_a_split_that_keeps_the_order(tmp_path):
    first, second, third = next(
        names
        for names in itertools.combinations(sorted(numbered(30)), 3)
        if [held_out(name, share) for name in names for share in (0.2, 0.5)] == [False, False, False, True, True, True]
    )
    folder = fill(tmp_path, {first: b"one", second: b"two", third: b"three"})
    few, more = (Text((str(folder),), share).load() for share in (0.2, 0.5))
    assert few.train + few.validation == more.train + more.validation
    assert few.fingerprint != more.fingerprint


def test_a_corpus_describes_itself(tmp_path):
    files = {"a": b"a" * 80 + b"b" * 20}
    documents = Text((str(fill(tmp_path / "poems", files)),), 0.2).load()
    assert documents.describe() == {
        "name": "poems",
        "fingerprint": documents.fingerprint,
        "train_bytes": 80,
        "validation_bytes": 20,
        "train_files": 1,
        "validation_files": 1,
    }
    assert Text(("x",)).vocabulary == StandardLibrary().vocabulary == SEPARATOR + 1 == 257


def test_a_missing_path_names_the_nearest(tmp_path):
    fill(tmp_path, {"corpus/poem.txt": b"text"})
    with pytest.raises(InputError, match=r"corpsu does not exist: did you mean .*/corpus\?"):
        Text((str(tmp_path / "corpsu"),)).load()
    with pytest.raises(InputError, match=r"corpsu/poem\.txt does not exist: did you mean .*/corpus\?"):
        Text((str(tmp_path / "corpsu" / "poem.txt"),)).load()
    with pytest.raises(InputError, match="name a file or folder that exists"):
        Text((str(tmp_path / "entirely-different"),)).load()


def test_an_empty_or_binary_corpus_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"0 bytes of text in .*empty, but 2 or more are needed: name"):
        Text((str(tmp_path / "empty"),)).load()
    fill(tmp_path, {"tiny": b"a", "binary": b"a\0b"})
    with pytest.raises(InputError, match="1 bytes of text in"):
        Text((str(tmp_path / "tiny"),)).load()
    with pytest.raises(InputError, match="binary is binary"):
        Text((str(tmp_path / "binary"),)).load()


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_outside_is_refused(share):
    with pytest.raises(InputError, match=f"validation_share.*{share}"):
        StandardLibrary(validation_share=share)
    with pytest.raises(InputError, match=f"validation_share.*{share}"):
        Text(("x",), validation_share=share)


@pytest.mark.parametrize("paths", [(), "folder", ["folder"]])
def test_paths_that_are_no_tuple_are_refused(paths):
    with pytest.raises(InputError, match=r"Text got paths=.*: needed"):
        Text(paths)


def test_what_might_never_end_is_refused_or_passed_over(tmp_path):
    folder = fill(tmp_path, numbered(9))
    before = Text((str(folder),)).load().fingerprint
    os.mkfifo(folder / "pipe.txt")
    with (folder / "sparse.txt").open("wb") as file:
        file.truncate(2**33)  # Nothing but NULs: its beginning tells that it is binary.
    assert Text((str(folder),)).load().fingerprint == before
    for path in (folder / "pipe.txt", "/dev/zero"):
        with pytest.raises(InputError, match="no regular file, and might never end"):
            Text((str(path),)).load()


def test_the_folders_of_runs_are_no_text(tmp_path):
    folder = fill(tmp_path, numbered(9))
    before = Text((str(folder),)).load().fingerprint
    for work in ("runs/mine", "runs/mine/rope"):
        (folder / work).mkdir(parents=True)
    (folder / "runs/mine/experiment.json").write_text("{}")
    (folder / "runs/mine/rope/metrics.jsonl").write_text("{}")
    assert Text((str(folder),)).load().fingerprint == before
    with pytest.raises(InputError, match="needed are files or folders"):
        Text(("",))
