"""Files that are either whole or not there, whatever kills the process or the machine; and folders with one owner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import math
import os
import secrets
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, TypeVar

from posjax.errors import Busy, InputError, StorageError
from posjax.owners import LOCK, place

REMEDY = "remove this one file and give the same command again, which writes it anew"
"""What to do about a damaged file, unless it is one that no command writes anew."""

PART = "posjax-part-"
"""What the name of an unfinished file has before sixteen letters of its own."""
STALE = 3600.0
"""After how many seconds an unfinished file is what a killed process left behind."""


def write_whole(path: Path, content: bytes) -> Path:
    """Writes `content` beside `path`, has the disk keep it, and moves it there. Errors: `StorageError`."""
    return write_stream(path, [content])


def write_stream(path: Path, pieces: Iterable[bytes | memoryview]) -> Path:
    """`write_whole` of what is made piece by piece, no more than one of them held. Errors: `StorageError`."""
    part = path.with_name(f".{path.name}.{PART}{secrets.token_hex(8)}")
    try:
        # A device or a pipe would be lost, and its reader wait for ever.
        require_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        # Made anew, so that no link that somebody put there is followed, and with the rights that the umask leaves.
        handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            # Before it takes its name: after a power cut the name might else stand on an empty file.
            os.fsync(file.fileno())
        os.replace(part, path)
        sync(path.parent)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


OWN = ("run.json", "results.json", "metrics.jsonl", "diverged.json", "experiment.json", LOCK)
"""What a run or its work folder keeps, whose place no file takes that a user names."""
LONGEST = 255 - len(f"..{PART}") - 16
"""Bytes that a file's name may have on nearly all file systems, with room for the name of its unfinished part."""


def named(path: Path) -> Path:
    """Where a file that a user names is to be written: behind a link, and else where it says.

    Errors: `InputError` for a path that no file can ever be written to, and for a file that a run keeps.
    """
    if len(os.fsencode(path.name)) > LONGEST:
        raise InputError(f"{path.name[:40]}... is too long a name for a file: give it {LONGEST} bytes at most")
    require_folder(path.parent)
    # Not replaced: what a link leads to is what whoever made it wants to be written.
    target = path
    if path.is_symlink():
        target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is a folder, a pipe or a device: name a file")
    if target.name in OWN and target.exists():
        raise InputError(f"{path} is a file that a run keeps: name another one")
    return target


def require_folder(path: Path, remedy: str = "name another folder") -> None:
    """Errors: `InputError` where no folder can ever be at a path: a file stands there or above, or it is no name."""
    try:
        # orbax takes no other, and would say so once the first step is trained.
        str(path).encode()
        above = [each for each in (path, *path.parents) if each.exists() and not each.is_dir()]
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!a} is not UTF-8: {remedy}") from error
    except OSError as error:
        # What may not be looked at, or cannot be now, may well be one.
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            return
        raise InputError(f"cannot write to {str(path)[:80]} ({reason(error)}): {remedy}") from error
    if above:
        raise InputError(f"cannot write to {path} ({above[0]} is no folder): {remedy}")


def _sweep(path: Path) -> None:
    # With a word of ours: a user's own copy may end in any letters and digits, as those of a date.
    for left in path.parent.glob(f".{glob.escape(path.name)}.{PART}{'[0-9a-f]' * 16}"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()


def sync(folder: Path) -> None:
    """Has the disk keep the names in a folder, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


LIMITS = {errno.EFBIG: "ulimit -f", errno.EMFILE: "ulimit -n"}
"""What sets a process's limits, by the errors of who meets one: a disk with room may refuse all the same."""


def reason(error: BaseException) -> str:
    """What an error says, in one line, and which limit of the process it has met, if one.

    >>> reason(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    'Too many open files: raise ulimit -n'
    """
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    said = (said.strip() or type(error).__name__).splitlines()[0].rstrip(": ")
    for number, limit in LIMITS.items():
        # In the text: libraries wrap what the system says in errors of their own.
        if os.strerror(number) in said:
            return f"{os.strerror(number)}: raise {limit}"
    return said


def refused(path: Path, error: OSError) -> StorageError:
    """What a refused write is told as."""
    return StorageError(
        f"cannot write to {path} ({reason(error)}): make room there or make it writable and "
        "give the same command again, or choose another folder with --work"
    )


def probe(folder: Path) -> None:
    """Makes the folder and writes to it, so that a disk which refuses says so now. Errors: `StorageError`."""
    path = folder / f".probe.{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            # Without a name at once, so that no kill leaves it behind.
            path.unlink()
            # A whole page, kept: a disk may take a name and a byte and still have no room.
            os.write(handle, b"\0" * 4096)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise refused(folder, error) from error


def write_json(path: Path, value: Any) -> Path:
    """A JSON file of `json_bytes`. Errors: `StorageError`."""
    return write_whole(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """A value as the text of a JSON file, numbers that are not finite as null."""
    return (json.dumps(_finite(value), indent=1, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    # JSON has no word for them, and readers other than Python's refuse the one that Python writes.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(path: Path, remedy: str = REMEDY) -> dict[str, Any]:
    """The object in a JSON file.

    Errors: `InputError` where it is damaged, with what to do, or no file; `StorageError` where the system does not let
    it be read now; `FileNotFoundError`.
    """
    try:
        require_file(path)
        tree = json.loads(path.read_bytes().decode())
    except (FileNotFoundError, InputError):
        raise
    except PermissionError as error:
        # Not damage: to take the file away, as the remedy says, would lose it.
        raise InputError(f"{path} may not be read ({error.strerror}): make it readable") from error
    except OSError as error:
        # Nor is this: nothing of it was read.
        raise StorageError(
            f"{path} cannot be read now ({reason(error)}): mend that and give the same command again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error), remedy) from error
    if not isinstance(tree, dict):
        raise damaged(path, f"it holds a {type(tree).__name__}, not an object", remedy)
    return tree


def require_file(path: Path) -> None:
    """Errors: `InputError` for a pipe, a device or a folder, of which there is no end to read up to."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file: take away what stands there in its place")


def damaged(path: Path, why: str, remedy: str) -> InputError:
    """What damage is told as."""
    return InputError(f"{path} is damaged ({why}): {remedy}")


Value = TypeVar("Value")
KINDS = {str: "a text", int: "a whole number", dict: "an object", list: "a list", NoneType: "null"}
"""What the values of JSON are called."""


def entry(tree: Any, name: str, *kinds: type) -> Any:
    """What a tree of JSON holds by a name, as one of `kinds`. Errors: `KeyError` and `TypeError`, for `built`.

    >>> entry({"steps": 3}, "steps", int)
    3
    """
    value = tree[name]
    # By the type itself: True is a whole number to Python, and here it is damage.
    if type(value) not in kinds:
        needed = " or ".join(KINDS[kind] for kind in kinds)
        raise TypeError(f"{name} is {repr(value)[:80]}, and needed is {needed}")
    return value


def built(path: Path, build: Callable[[], Value], remedy: str = REMEDY) -> Value:
    """Builds a value from the tree of a file; a missing or a wrong entry is the file's damage, not a crash."""
    try:
        return build()
    except KeyError as error:
        raise damaged(path, f"no entry {error}", remedy) from error
    # What int(), float() and items() raise at a value of another kind; a number may be too large for a float.
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise damaged(path, str(error), remedy) from error


HELD: ContextVar[Mapping[str, tuple[int, int]]] = ContextVar("held", default=MappingProxyType({}))
"""The folders that this thread owns, each path with its device and number, so that a block inside another passes.

Another thread begins without any: it is refused as another process is.
"""


@contextlib.contextmanager
def owned(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Makes this thread the one that writes to a folder, for as long as the block lasts; it may own it already.

    `patience`: for how many seconds an owner is waited for. The lock goes with the process, however it ends. Errors:
    `Busy` says who holds it; `StorageError` for a folder that cannot be written.
    """
    path = os.path.abspath(folder)
    if path in HELD.get():
        # Not made anew where it is gone: what is written next belongs to what lay there before.
        require_unmoved(folder, HELD.get()[path])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        identity = identity_of(folder)
    except OSError as error:
        raise refused(folder, error) from error
    if identity in HELD.get().values():
        yield
        return
    with contextlib.ExitStack() as handles:
        _take(folder, handles, time.monotonic() + patience)
        # Had it been moved before the lock was taken, another folder would be the locked one.
        require_unmoved(folder, identity)
        before = HELD.set({**HELD.get(), path: identity})
        try:
            yield
        finally:
            HELD.reset(before)


def identity_of(folder: Path) -> tuple[int, int]:
    """What two folders never share, whatever they are called."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def require_owned(folder: Path) -> None:
    """Errors: `StorageError` where the folder at this path is not one that this thread owns, since it was moved."""
    held = HELD.get()
    path = os.path.abspath(folder)
    if path in held:
        require_unmoved(folder, held[path])
    elif not folder.is_dir() or identity_of(folder) not in held.values():
        raise gone(folder)


def require_unmoved(folder: Path, identity: tuple[int, int]) -> None:
    """Errors: `StorageError` where another folder stands at this path by now, or none."""
    if not folder.is_dir() or identity_of(folder) != identity:
        raise gone(folder)


def gone(folder: Path) -> StorageError:
    """What a folder that was moved away is told as."""
    return StorageError(f"{folder} is gone: put it back, and the same command goes on from what it holds")


def _take(folder: Path, handles: contextlib.ExitStack, until: float) -> None:
    """Locks a folder and says in `owner.lock` who did. Errors: `Busy`, `StorageError`."""
    path = folder / LOCK
    while True:
        with contextlib.ExitStack() as mine:
            try:
                # The folder itself first: its lock outlives an `owner.lock` that somebody takes away.
                whole = _locked(_opened(folder, os.O_RDONLY, mine))
                if whole and path.exists() and path.stat().st_nlink > 1:
                    path.unlink()  # A copy by hard links would share its lock with the folder that it was made of.
                handle = _opened(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, mine)
                locked = _locked(handle) or whole
            except BlockingIOError as error:
                if time.monotonic() < until:
                    time.sleep(0.05)
                    continue
                raise Busy(
                    f"{folder} is in use by {_holder(path)}: wait until it has ended and give the same command "
                    "again, or choose another folder with --work"
                ) from error
            except OSError as error:
                raise refused(folder, error) from error
            if not locked:
                warnings.warn(
                    f"{folder} lies on a file system without locks: see to it that one process alone writes there",
                    stacklevel=5,
                )
            _sign(handle)
            # Given back, it names nobody: what a reader finds there is of a process that holds it, or was killed.
            mine.callback(_unsign, handle)
            handles.push(mine.pop_all())
            return


def _opened(path: Path, flags: int, handles: contextlib.ExitStack) -> int:
    handle = os.open(path, flags, 0o666)
    handles.callback(os.close, handle)
    return handle


def _locked(handle: int) -> bool:
    """Whether the file system has locks, this one taken. Errors: `BlockingIOError` where another has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # Folders cannot be locked over NFS, and on some file systems nothing can.
        return False
    return True


def _holder(path: Path) -> str:
    """Who holds a lock, as far as it has said so."""
    with contextlib.suppress(OSError):
        return path.read_bytes()[:500].decode(errors="replace").strip() or "another process"
    return "another process"


def _sign(handle: int) -> None:
    me = f"process {os.getpid()} on {socket.gethostname()} {place()}"
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    command = " ".join(sys.argv)[:200]
    told = f"{me}since {since} ({command})\n"
    with contextlib.suppress(OSError):  # Who it is helps the next one; the lock itself holds without it.
        os.ftruncate(handle, 0)
        os.pwrite(handle, told.encode(errors="replace"), 0)


def _unsign(handle: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
