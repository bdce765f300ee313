"""What a run's folder holds, and whose it is: claimed once, held to be so ever after, and tied to its results."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path
from types import NoneType
from typing import Any, Protocol

from posjax.errors import Diverged, InputError
from posjax.files import REMEDY, built, entry, json_bytes, read_json, require_owned, write_json
from posjax.identity import differences, tree
from posjax.surroundings import changes
from posjax.training import begun
from posjax.training.checkpoints import as_told
from posjax.training.plan import training_fingerprint

HOW = re.compile(r"train\.(stages\.\d+\.train\.)?(devices|log_every|sinks|profile|check)\b")
"""Where configs may differ and a run be the same: how it is computed and shown, and not what."""

BEFORE = "results_before"
"""Under which name a manifest keeps the fingerprint of results that are being replaced."""


ANEW = "take it away and give the command of experiments.run again, which writes it anew"
"""What to do about a damaged file that this command only reads."""


class RunConfiguration(Protocol):
    """What a folder belongs to: a frozen value with a name, such as `posjax.runs.Run`."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    def about(self, corpus: str | None) -> dict[str, Any]:
        """What the bits of its training depend on, a text's fingerprint among them."""
        ...

    def stages(self, corpus: str | None) -> list[dict[str, Any]]:
        """What is kept of its trainings where there are several."""
        ...

    def surroundings(self) -> dict[str, Any]:
        """What it would run on here, now."""
        ...


def claim(run: RunConfiguration, folder: Path, corpus: str | None) -> list[str]:
    """Makes a folder this run's own, or holds it to be so already, and tells what else has changed since.

    `corpus` is the fingerprint of the text. Errors: `InputError` that says what differs, `StorageError`.
    """
    if not (folder / "run.json").exists():
        return _begin(run, folder, corpus)
    kept = hold(run, folder)
    here, notes = _compared(run, folder, kept, corpus)
    if notes:
        # Added and not replaced: what a run was begun on stays, and so does each place that it went on at.
        write_json(folder / "run.json", {**kept, "sessions": [*kept.get("sessions", []), here]})
    return notes


def compare(run: RunConfiguration, folder: Path, corpus: str | None) -> list[str]:
    """As `claim`, for a folder that is only read: it tells the same, and keeps nothing of it."""
    _, notes = _compared(run, folder, hold(run, folder), corpus)
    return notes


def hold(run: RunConfiguration, folder: Path) -> dict[str, Any]:
    """The manifest of a folder, held to be this run's. Errors: `InputError` that says what differs."""
    path = folder / "run.json"
    if not path.exists():
        raise InputError(f"{folder} holds no run: train it first with experiments.train or experiments.run")
    kept = read(folder)
    different = [line for line in differences(kept["config_tree"], run) if not HOW.match(line)]
    _refuse_another(folder, different)
    # The text is not compared here: to use a trained model nobody needs to have it.
    return kept


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, held to the shape that commands use. Errors: `InputError` names what is wrong in it."""
    path = folder / "run.json"
    try:
        kept = read_json(path, ANEW)
    except FileNotFoundError as error:
        # Its results may still be there, and without it nobody knows whose they are.
        raise InputError(
            f"{path} is gone: put it back, or give the command of experiments.run again, which begins the run anew"
        ) from error
    built(path, lambda: _hold_shape(kept), ANEW)
    return kept


def _hold_shape(kept: dict[str, Any]) -> None:
    """Errors: `KeyError` and `TypeError` for a manifest of another shape."""
    entry(kept, "name", str)
    entry(kept, "corpus", str, NoneType)
    config = entry(kept, "config_tree", dict)
    if "seed" in config:
        entry(config, "seed", int, NoneType)
    if "train" in config:
        train = entry(config, "train", dict)
        # A published model takes no steps, and has no such entry.
        if "steps" in train:
            entry(train, "steps", int)
    if "stages" in kept:
        for stage in entry(kept, "stages", list):
            for name, kind in (("folder", str), ("training", str), ("steps", int)):
                entry(stage, name, kind)


def finished(folder: Path) -> bool:
    """Whether a run's results are there."""
    return (folder / "results.json").is_file()


def require_undiverged(folder: Path) -> None:
    """Errors: `Diverged` where the run of this folder has: the same steps would end the same way again."""
    path = folder / "diverged.json"
    if path.exists():
        raise Diverged(str(read_json(path).get("reason")))


def keep_diverged(folder: Path, why: Diverged) -> None:
    """Writes why a run diverged, for reports and for the next command. Errors: `StorageError`."""
    require_owned(folder)
    write_json(folder / "diverged.json", {"reason": str(why)})


def manifest(run: RunConfiguration, corpus: str | None) -> dict[str, Any]:
    """What is needed to repeat a run: the config and all that it ran on."""
    kept: dict[str, Any] = {
        "name": run.name,
        "label": run.label,
        "config": repr(run),
        "config_tree": tree(run),
        "corpus": corpus,
        "training": training_fingerprint(run.about(corpus)),
        **run.surroundings(),
    }
    stages = run.stages(corpus)
    if stages:
        kept["stages"] = stages
    return kept


def _begin(run: RunConfiguration, folder: Path, corpus: str | None) -> list[str]:
    """Writes the manifest of a folder that has none, and sets aside what was measured there before."""
    # Nothing is written before this: a folder of another config stays as it is.
    # Without its manifest a folder still knows by its checkpoints whose it is.
    wanted: Any = run.about(corpus)
    places = [stage["folder"] for stage in run.stages(corpus)] or ["."]
    # The last training first, which says of those before it what they were.
    for place in reversed(places):
        trained = begun(folder / place / "checkpoints")
        if trained is not None:
            _refuse_another(folder, differences(trained, as_told(trained, wanted)))
            break
        wanted = wanted.get("before")
    notes = []
    for name in ("results.json", "diverged.json"):
        if (folder / name).exists():
            # Set aside and not removed: it may be the only copy of somebody's results.
            aside = folder / f"{name}.{secrets.token_hex(2)}"
            (folder / name).rename(aside)
            notes.append(f"the folder begins anew, and what it held is {aside.name} now")
    write_json(folder / "run.json", manifest(run, corpus))
    return notes


def _compared(
    run: RunConfiguration, folder: Path, kept: dict[str, Any], corpus: str | None
) -> tuple[dict[str, Any], list[str]]:
    """What the run would run on here, and a line where its last session ran on something else."""
    if kept["corpus"] != corpus:
        raise InputError(
            f"{folder} was begun with a corpus of fingerprint {kept['corpus']}, and it is "
            f"{corpus} now: restore the text, or choose another folder with --work"
        )
    here = run.surroundings()
    try:
        # The first session is the manifest itself.
        sessions = [kept, *kept.get("sessions", [])]
        last_session = sessions[-1]
        since = changes(last_session, here)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        path = folder / "run.json"
        raise InputError(f"{path} is damaged (what it says of versions and devices): {REMEDY}") from error
    if not since:
        return here, []
    return here, [f"this goes on elsewhere than it was begun: {'; '.join(since)}"]


def _refuse_another(folder: Path, different: list[str]) -> None:
    """Errors: `InputError` where a folder's config differs from this one, with the first few places."""
    if not different:
        return
    # The first few are enough to see what was mistaken for what.
    said = "; ".join(different[:3])
    if len(different) > 3:
        said += f"; and {len(different) - 3} more"
    raise InputError(
        f"{folder} belongs to another config: {said}. Nothing was changed; choose another folder with --work"
    )


def write_results(kept: dict[str, Any], target: Path, results: dict[str, Any]) -> None:
    """Writes the results of the run of a manifest into `target`, and there whose they are.

    Errors: `StorageError` where `target` is not the folder any more that this thread owns.
    """
    # To measure takes long enough for somebody to move the folder, and put another run's where it was.
    require_owned(target)
    path = target / "results.json"
    manifest = {name: value for name, value in kept.items() if name != BEFORE}
    manifest["results"] = _fingerprint(json_bytes(results))
    replaced = _sound(target)
    # First which results they will be: where a kill comes between, none are better than those of another time.
    # Until they are there, which a full disk may prevent, this run's own of before are as good.
    write_json(target / "run.json", {**manifest, **replaced})
    write_json(path, results)
    if replaced:
        write_json(target / "run.json", manifest)


def _sound(folder: Path) -> dict[str, str]:
    """Under `BEFORE`, the fingerprint of the results in a folder, if its run's evaluation wrote them."""
    try:
        check_results(folder)
        return {BEFORE: _fingerprint((folder / "results.json").read_bytes())}
    except (FileNotFoundError, InputError):
        return {}


def _fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def check_results(folder: Path) -> None:
    """Errors: `InputError` where the results in a folder are not those that its run's evaluation wrote.

    Runs of before this was kept are known by their names alone.
    """
    path = folder / "results.json"
    if not path.is_file() or not (folder / "run.json").is_file():
        return
    manifest = read_json(folder / "run.json")
    # Runs of before this was kept have none.
    kept = manifest.get("results")
    sound = (kept, manifest.get(BEFORE))
    name = read_json(path).get("name")
    if name != manifest.get("name") or (kept is not None and _fingerprint(path.read_bytes()) not in sound):
        raise InputError(
            f"{path} is not what the evaluation of this run wrote (it is of {name!r}, or was changed since): take it "
            "away and give the same command again, which evaluates anew"
        )


def check_target(run: RunConfiguration, to: Path) -> None:
    """Errors: `InputError` for a folder that a run was trained in or of another config, whose files would be lost."""
    if (to / "checkpoints").exists() or (to / "metrics.jsonl").exists() or (to / "stages").exists():
        raise InputError(f"{to} holds a run of its own: choose another folder with --to for these results")
    if (to / "run.json").exists():
        hold(run, to)
    elif (to / "results.json").exists():
        raise InputError(f"{to} holds results and no run.json that says whose: choose another folder with --to")
