"""The check from the shell: one encoding, a mistake, and a law that is broken."""

import pytest

from experiments import check
from posjax import InputError, Regrouped, Rope, Wrapped, chain
from posjax.encodings import REGISTRY
from posjax.encodings.examples import examples


def test_one_encoding(capsys):
    check.command(["Rope(base=5e5)"])
    told = capsys.readouterr().out
    assert "Rope(base=500000.0" in told and "shift" in told and "1 encoding, 0 laws broken" in told


@pytest.mark.exhaustive
def test_what_is_told_fits_a_terminal(capsys):
    check.command(["chain(Rope(schedule=Yarn(4.0, 64)), by_head(Rope(base=5e5), Rope(base=5e6)), T5Bias(), Alibi())"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "need"),
    [
        ([], "or --all"),
        (["Rope()", "--all"], "or --all"),
        (["Rpe()"], "not an encoding"),
        (["Dims()"], "Dims is no encoding"),
        (["Interpolation(2.0)"], "is a Interpolation"),
        (["Rope()", "--fast"], "unknown option --fast"),
        (["Rope(base=0.5)"], "base=0.5"),
    ],
)
def test_mistakes(arguments, need):
    with pytest.raises(InputError, match=need):
        check.command(arguments)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch ran')",
        "__builtins__['__import__']('os').system('touch ran')",
        "().__class__",
        "Rope(base=1/0)",
        "Rope(**{'base': 5.0})",
        "[Rope() for _ in 'x']",
        "(lambda: Rope())()",
        "Rope().replace(base=5.0)",
        "Rope(base=1e999)",
        "'x' * 10**12",
        "Kerple(kind=[])",
        "Rope(",
        "",
        "(" * 500,
        "chain()" * 3,
        "\0",
    ],
)
def test_nothing_but_names_and_literals_is_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as said:
        check.value(text)
    assert list(tmp_path.iterdir()) == [] and len(str(said.value)) < 900


@pytest.mark.parametrize(
    "encoding",
    [value for kind in REGISTRY for value in examples(kind) if not isinstance(value, Wrapped | Regrouped)],
    ids=repr,
)
def test_every_encoding_is_read_as_it_prints(encoding):
    assert check.value(repr(encoding)) == encoding


def test_a_broken_law_is_the_exit_code(monkeypatch, capsys):
    class Late(type(chain(Rope(), Rope()))):
        def rotate(self, params, x, positions, role):
            return Rope().rotate({}, x, positions * (2 if role == "key" else 1), role)

    monkeypatch.setattr(check, "value", lambda text: Late((Rope(), Rope())))
    with pytest.raises(SystemExit) as stop:
        check.command(["anything"])
    assert stop.value.code == 1 and "BROKEN" in capsys.readouterr().out
