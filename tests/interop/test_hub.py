"""A name on the Hub is fetched through its own package, and nothing else asks the network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from posjax.errors import InputError
from posjax.interop.hub import locate


@pytest.fixture
def calls(monkeypatch):
    """What the package was asked for, instead of the network."""
    found = []

    def snapshot_download(*given, **named):
        found.append((given, named))
        return "/cache/model"

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    return found


@pytest.mark.parametrize(
    ("source", "model", "revision"),
    [
        ("hf:EleutherAI/pythia-14m", "EleutherAI/pythia-14m", None),
        ("hf:EleutherAI/pythia-14m@step1000", "EleutherAI/pythia-14m", "step1000"),
        ("hf:Qwen/Qwen2.5-0.5B@refs/pr/3", "Qwen/Qwen2.5-0.5B", "refs/pr/3"),
    ],
)
def test_a_name_is_fetched_as_json_and_safetensors_alone(calls, source, model, revision):
    assert locate(source) == Path("/cache/model")
    ((given, named),) = calls
    assert given == (model,)
    assert named["revision"] == revision
    assert named["allow_patterns"] == ["*.json", "*.safetensors"]


@pytest.mark.parametrize("source", ["models/hf", Path("hf:owner/name"), "./hf:owner/name"])
def test_a_path_is_a_path_and_asks_for_nothing(calls, source):
    assert locate(source) == Path(source)
    assert calls == []


@pytest.mark.parametrize("source", ["hf:", "hf:pythia", "hf:a/b/c", "hf:a/b@", "hf:a/b c", "hf:../b@"])
def test_what_is_no_name_is_refused(calls, source):
    with pytest.raises(InputError, match="hf:OWNER/NAME"):
        locate(source)
    assert calls == []


@pytest.mark.parametrize("error", [OSError("401 Client Error\nRequest ID"), ValueError("no such repository")])
def test_what_the_hub_refuses_is_one_line(monkeypatch, error):
    def snapshot_download(*_, **__):
        raise error

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    with pytest.raises(InputError, match="hf:a/b cannot be fetched") as caught:
        locate("hf:a/b")
    assert "\n" not in str(caught.value)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"fetching hf:a/b needs .* pip install 'posjax\[hf\]'"):
        locate("hf:a/b")
