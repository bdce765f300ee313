"""The registry holds every encoding that the package exports, so the conformance suite misses none, and fields refuse
what they cannot hold."""

import dataclasses
import math
import typing

import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import InputError
from posjax.encodings import REGISTRY, Encoding, RelativeBias
from posjax.encodings.examples import examples


def test_the_registry_holds_what_the_package_exports():
    exported = {value for value in vars(posjax).values() if isinstance(value, type) and issubclass(value, Encoding)}
    assert len(exported) > 5 and exported - {Encoding, RelativeBias} <= set(REGISTRY)


def test_abstract_contracts_are_not_run_as_encodings():
    assert Encoding not in REGISTRY and RelativeBias not in REGISTRY


def wrong_for(value: object, hint: object) -> list[object]:
    """What no field of that kind may hold."""
    if value is None or "None" in str(hint):
        return [math.nan, "8"]
    kinds = {
        bool: [2, "yes", None],
        int: [1.5, math.nan, 2**31, "8", None, True],
        str: ["nonsense", 3, None],
        float: [math.nan, math.inf, "8", None, True],
        tuple: [None, [1.0], ("a",), (), (math.nan,) * 8],
    }
    return kinds.get(type(value), [3.5, None, "a"])


LONG = posjax.LongRope(4.0, 64, (1.0,) * 8, (2.0,) * 8)
VALUES = [
    *(v for kind in REGISTRY for v in examples(kind)[:3]),
    posjax.Regrouped(posjax.Rope(), 2, 1),
    posjax.Pinned(posjax.Rope(), 3),
    posjax.Wrapped(posjax.Rope(), 4, 1, 5),
    posjax.Chunks(4),
    LONG,
    *(v.schedule for v in examples(posjax.Rope)),
    posjax.DynamicNTK(2.0, 4, 8),
]
EACH = {(type(value).__name__, f.name): (value, f) for value in VALUES for f in dataclasses.fields(value)}


@pytest.mark.parametrize("name", EACH, ids=".".join)
def test_every_field_refuses_what_it_cannot_hold(name):
    value, field = EACH[name]
    wrongs = wrong_for(getattr(value, field.name), typing.get_type_hints(type(value))[field.name])
    assert wrongs
    for wrong in wrongs:
        with pytest.raises(InputError) as caught:
            dataclasses.replace(value, **{field.name: wrong})
        text = str(caught.value)
        assert "got" in text and "needed" in text and (repr(wrong) in text or str(wrong) in text), (wrong, text)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: posjax.Interpolation(0.5), "factor=0.5"),
        (lambda: posjax.Yarn(2.0, 0), "original_length=0"),
        (lambda: posjax.LongRope(4.0, 64, (1.0,), (1.0, 2.0)), "one length"),
        (lambda: posjax.DynamicNTK(2.0, 4, length=0), "length=0"),
        (lambda: posjax.Window(0), "size=0"),
        (lambda: posjax.Window("8"), "size='8'"),
        (lambda: posjax.Learned(0), "length=0"),
        (lambda: posjax.Rope(schedule="yarn"), "a value of Schedule, such as Plain()"),
        (lambda: posjax.Learned(512.0), "such as 512"),
        (lambda: posjax.Rope(base=jnp.float32(1e4)), "a finite number"),
    ],
)
def test_refusals_show_the_value_and_a_way_out(make, words):
    with pytest.raises(InputError) as caught:
        make()
    assert words in str(caught.value), str(caught.value)


def test_numbers_of_numpy_are_numbers():
    assert posjax.Learned(np.int64(8)) == posjax.Learned(8)
    assert posjax.Interpolation(np.float32(2.0)) == posjax.Interpolation(2)


def test_a_class_of_a_function_is_a_class():
    class Inside:
        pass

    @dataclasses.dataclass(frozen=True)
    class Mine(Encoding):
        part: "Inside | None" = None

    assert Mine().part is None


def test_a_field_of_any_kind_holds_anything():
    @dataclasses.dataclass(frozen=True)
    class Mine(Encoding):
        part: typing.Any = None

    assert Mine("8").part == "8"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: posjax.Rope(layout="halves"), "layout='halves': needed is 'split' (Llama) or 'interleaved' (GPT-J)"),
        (lambda: posjax.Rope(base=1), "base=1: needed is a number above 1, usually 10,000 or more"),
        (lambda: posjax.Rope(fraction=0.0), "fraction=0.0: needed is a share of the head in (0, 1]"),
        (lambda: posjax.CoPE(length=1), "length=1: needed is the number of rows, 2 or more"),
        (lambda: posjax.ScalableSoftmax(-1.0), "scale=-1.0: needed is a positive number; the paper's models learn"),
        (
            lambda: posjax.Yarn(2.0, 8, attention_factor=0.0),
            "attention_factor=0.0: needed is a positive number, or None",
        ),
    ],
)
def test_ranges_stand_in_the_annotations(make, words):
    with pytest.raises(InputError) as caught:
        make()
    assert words in str(caught.value), str(caught.value)
