"""The check from the shell: one encoding, a mistake, and a law that is broken."""

import pytest

from experiments import check
from posjax import InputError, Rope, chain


def test_one_encoding(capsys):
    check.command(["Rope(base=5e5)"])
    told = capsys.readouterr().out
    assert "Rope(base=500000.0" in told and "shift" in told and "1 encodings, 0 laws broken" in told


@pytest.mark.parametrize(("arguments", "need"), [
    ([], "or --all"), (["Rope()", "--all"], "or --all"), (["Rpe()"], "not an encoding"), (["Dims()"], "is a Dims"),
    (["Rope()", "--fast"], "unknown option --fast"), (["Rope(base=0.5)"], "base=0.5"),
])
def test_mistakes(arguments, need):
    with pytest.raises(InputError, match=need):
        check.command(arguments)


def test_a_broken_law_is_the_exit_code(monkeypatch, capsys):
    class Late(type(chain(Rope(), Rope()))):
        def rotate(self, params, x, positions, role):
            return Rope().rotate({}, x, positions * (2 if role == "key" else 1), role)

    monkeypatch.setattr(check, "value", lambda text: Late((Rope(), Rope())))
    with pytest.raises(SystemExit) as stop:
        check.command(["anything"])
    assert stop.value.code == 1 and "BROKEN" in capsys.readouterr().out
