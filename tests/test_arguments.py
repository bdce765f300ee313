"""Arguments of another kind than is meant, given to every public call: one line that names them, never a result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Alibi,
    Causal,
    DynamicNTK,
    Fire,
    Forgetting,
    Full,
    InputError,
    Kerple,
    Learned,
    Rope,
    ScalableSoftmax,
    Segments,
    T5Bias,
    TransformerXL,
    Window,
    XPos,
    attend,
    chain,
    invariants,
    positions,
)
from posjax.arguments import integers, whole
from posjax.attention import attention, explain, linear_attend
from posjax.encodings import Dims, Head
from posjax.models import build, generate
from tests.small import small

x = np.ones((2, 5, 2, 8), np.float32)
key = jax.random.key(0)
CONFIG = small(Rope())
TOKENS = np.ones((2, 4), np.int32)


@pytest.fixture(scope="module")
def model():
    return build(CONFIG, 11, 0)


def of(encoding, *sizes):
    return encoding.init(key, Dims(*sizes))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: attend(None, x, x), "q is a NoneType"),
        (lambda: attend(x.tolist(), x, x), "q is a list"),
        (lambda: attend(x, x, x, q_positions="abc", encoding=Rope()), "q_positions are 'abc'"),
        (lambda: attend(x, x, x, q_positions=[[1], [2, 3]], encoding=Rope()), "q_positions are [[1], [2, 3]]"),
        (lambda: attend(x, x, x, length="a"), "length is 'a'"),
        (lambda: attend(x, x, x, length=-1), "length is -1"),
        (lambda: attend(x, x, x, length=2.5), "length is 2.5"),
        (lambda: attend(x, x, x, length=True), "length is True"),
        (lambda: attend(x, x, x, mask=Window(None)), "Window got size=None"),
        (lambda: attend(x, x, x, mask=Causal() & Segments(None)), "Segments got queries"),
        (lambda: attend(x, x, x, mask=Causal() & Segments("a")), "Segments got queries"),
        (lambda: attend(x, x, x, backend=3), "backend=3"),
        (lambda: explain(x, encoding=None), "encoding is None"),
        (lambda: explain(x, mask=None), "mask is None"),
        (lambda: explain(3), "q is a int"),
        (lambda: explain(x, q_positions=np.arange(3)), "q_positions have shape (3,)"),
        (lambda: explain(x, mask=np.ones((3, 3), bool)), "shape (1, 3, 3)"),
        (lambda: explain(x, encoding=Forgetting(), mask=Full()), "defined for keys at or before"),
        (lambda: explain(np.ones((1, 4, 3, 8)), np.ones((1, 4, 2, 8))), "q has 3 heads and k has 2"),
        (lambda: linear_attend(x, x, x, encoding=None), "encoding is None"),
        (lambda: linear_attend(x, x, x, state=3), "the state int"),
        (lambda: linear_attend(x, x, x, state=linear_attend(x[:1], x[:1], x[:1])[1]), "for as many rows"),
        (lambda: linear_attend(x, x, x, state=linear_attend(*(x[..., :4],) * 3)[1]), "for as many rows"),
        (lambda: linear_attend(x, x, x, feature=3), "feature is 3"),
        (lambda: linear_attend(x, x, x, feature=lambda a: a[..., :2]), "feature made"),
        (lambda: positions.contiguous(-1), "length is -1"),
        (lambda: positions.contiguous(2.5), "length is 2.5"),
        (lambda: positions.contiguous(None), "length is None"),
        (lambda: positions.contiguous(3, 2.5), "start is 2.5"),
        (lambda: positions.contiguous(3, np.ones(2, int)), "start is array"),
        (lambda: positions.packed(None), "segments are None"),
        (lambda: positions.packed(np.ones((1, 3))), "segments are float64"),
        (lambda: positions.packed(np.array(1)), "segments have shape ()"),
        (lambda: positions.packed(np.ones((1, 2, 3), int)), "segments have shape (1, 2, 3)"),
        (lambda: positions.left_padded(None), "real are None"),
        (lambda: positions.left_padded(np.array([[0.5, 1.0]])), "real are float64"),
        (lambda: build(CONFIG, 11, 0).cache(1, -5), "size is -5"),
        (lambda: build(CONFIG, 11, 0).cache("a", 5), "batch is 'a'"),
        (lambda: Dims("2", 8), "Dims.heads is '2'"),
        (lambda: Dims(2, 8.0), "Dims.head_size is 8.0"),
        (lambda: Dims(2, -8), "Dims.head_size is -8"),
        (lambda: Head(5, 2), "index=5 of 2"),
        (lambda: Head(-1, 2), "index=-1 of 2"),
        (lambda: Head(0.5, 2), "index=0.5 of 2"),
        (lambda: Rope().rotate({}, x, np.arange(5.0), "query"), "positions are float64"),
        (lambda: Alibi().bias({}, np.arange(3.0), np.arange(3.0), Head(0, 2)), "positions are float64"),
        (lambda: attend(x[..., :0], x[..., :0], x), "no channels"),
        (lambda: attend(x, x, x[..., :0]), "v has no channels"),
        (lambda: linear_attend(x, x, x[..., :0]), "v has no channels"),
        (lambda: attend(x, x, x, softcap=1e38), "softcap is 1e+38"),
        (lambda: attend(x, x, x, scale=1e-40), "scale is 1e-40"),
        (lambda: attention(x, x, x, q_offset=2**31 - 2), "q_offset is 2147483646"),
        (lambda: invariants.check(None, Dims(2, 8)), "encoding is None"),
        (lambda: invariants.check(Rope(), None), "dims is None"),
        (lambda: invariants.assert_relative(Rope(), None, Dims(2, 8)), "params is None"),
        (lambda: invariants.assert_relative(None, {}, Dims(2, 8)), "encoding is None"),
        (lambda: invariants.assert_relative(Rope(), {}, Dims(2, 8), offsets=(2**31,)), "an offset is 2147483648"),
        (lambda: invariants.assert_relative(Rope(), {}, Dims(2, 8), length=0), "length is 0"),
        (lambda: invariants.assert_tile(None, {}, Dims(2, 8)), "encoding is None"),
        (lambda: invariants.assert_decode(Rope(), {}, 3), "dims is 3"),
        (lambda: invariants.assert_distinct(Rope(), {}, Dims(2, 8, 16), (0, 2.5)), "a position is 2.5"),
    ],
)
def test_it_is_named(call, named):
    with pytest.raises(InputError) as caught:
        call()
    said = str(caught.value)
    assert named in said and "\n" not in said and len(said) < 400, said


@pytest.mark.parametrize(
    ("encoding", "params", "named"),
    [
        (T5Bias(), None, "none were given"),
        (T5Bias(), {}, "none were given"),
        (T5Bias(), [1], "params of type list"),
        (T5Bias(), of(Kerple(), 2, 8), "params without 'table'"),
        (T5Bias(), of(T5Bias(), 4, 8), "params['table'] of shape (4, 32): needed is [2, 32]"),
        (T5Bias(), {"table": "abc"}, "params['table']='abc'"),
        (T5Bias(), {"table": None}, "params['table']=None"),
        (T5Bias(), {"table": np.ones((2, 32), bool)}, "needed is an array of numbers"),
        (Rope(), jax.tree.map(lambda x: np.ones(np.shape(x), np.float16), Rope().constants(Dims(2, 8))), "of float16"),
        (Rope(), Rope().constants(Dims(2, 16)), "params['turns'] of shape (2, 8): needed is [2, 4]"),
        (XPos(), XPos().constants(Dims(2, 16)), "params['turns'] of shape (2, 8): needed is [2, 4]"),
        (ScalableSoftmax(), of(ScalableSoftmax(), 4, 8), "params['scale'] of shape (4,): needed is [2]"),
        (Fire(), of(Fire(), 4, 8), "params['out']"),
        (Fire(hidden=4), of(Fire(hidden=8), 2, 8), "params['in_scale'] of shape (1, 8): needed is [1, 4]"),
        (Alibi(learned=True), of(Alibi(learned=True), 4, 8), "params['log_slopes'] of shape (4,): needed is [2]"),
        (Forgetting(), of(Forgetting(), 4, 8), "of shape (4,): needed is [2]"),
        (Forgetting(), of(Forgetting(), 2, 4), "params['w'] of shape (2, 4): needed is [2, 8]"),
        (TransformerXL(), of(TransformerXL(), 1, 8, 16), "params['u'] of shape (1, 8): needed is [2, 8]"),
        (
            TransformerXL(),
            {**of(TransformerXL(), 2, 8, 16), "w": np.ones((2, 4, 16), np.float32)},
            "needed is [2, 8, D]",
        ),
        (chain(Rope(), T5Bias()), {"0": {}, "1": {}}, "params['1'] without 'table'"),
        (chain(Rope(), T5Bias()), {"0": {}, "1": of(T5Bias(), 4, 8)}, "params['1']['table'] of shape (4, 32)"),
    ],
)
def test_parameters_are_those_of_the_encodings_own_init(encoding, params, named):
    with pytest.raises(InputError) as caught:
        attend(x, x, x, encoding=encoding, params=params)
    said = str(caught.value)
    assert named in said and "\n" not in said and "encoding.init(key, Dims(heads=2, head_size=8" in said, said


def test_parameters_may_be_shared_by_heads_and_joined_with_constants():
    shared = {"table": np.ones((1, 32), np.float32)}
    repeated = {"table": np.ones((2, 32), np.float32)}
    got, wanted = (attend(x, x, x, encoding=T5Bias(), params=params) for params in (shared, repeated))
    np.testing.assert_array_equal(got, wanted)
    encoding = chain(Rope(), TransformerXL())
    joined = encoding.join(of(encoding, 2, 8, 16), encoding.constants(Dims(2, 8, 16)))
    assert np.isfinite(attend(x, x, x, encoding=encoding, params=joined)).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda m: m(None), "tokens are None"),
        (lambda m: m(np.ones(4, int)), "tokens have shape (4,)"),
        (lambda m: m(np.ones((1, 2, 3), int)), "tokens have shape (1, 2, 3)"),
        (lambda m: m(np.ones((2, 4))), "tokens are float64"),
        (lambda m: m(TOKENS, np.arange(3)), "positions have shape (3,)"),
        (lambda m: m(TOKENS, "a"), "positions are 'a'"),
        (lambda m: m(TOKENS, mask=None), "mask is None"),
        (lambda m: generate(m, "ab", 2), "the prompt's tokens are 'ab'"),
        (lambda m: generate(m, np.ones((1, 2)), 2), "the prompt's tokens are float64"),
        (lambda m: generate(m, np.full((1, 2), 99), 2), "from 99 to 99: the vocabulary has 11"),
        (lambda m: generate(m, np.full((1, 2), -1), 2), "from -1 to -1"),
        (lambda m: generate(m, TOKENS, "3"), "new is '3'"),
        (lambda m: generate(m, TOKENS, 2.5), "new is 2.5"),
        (lambda m: generate(m, TOKENS, 2, seed="a"), "seed is 'a'"),
        (lambda m: generate(m, TOKENS, 2, sampling=3), "sampling=3"),
    ],
)
def test_a_model_names_it(model, call, named):
    with pytest.raises(InputError) as caught:
        call(model)
    said = str(caught.value)
    assert named in said and "\n" not in said, said


def test_lists_and_numpys_own_are_taken(model):
    np.testing.assert_array_equal(model([[1, 2]]), model(jnp.array([[1, 2]])))
    np.testing.assert_array_equal(generate(model, [[1, 2]], np.int64(2)), generate(model, jnp.array([[1, 2]]), 2))
    assert positions.packed([[1, 1, 2]]).tolist() == [[0, 1, 0]]
    assert positions.left_padded([[0, 7, 9]]).tolist() == [[0, 0, 1]]
    table = {"table": np.arange(32, dtype=np.float32).reshape(8, 4)}
    assert np.isfinite(Learned(8).embed(table, jnp.ones((1, 3, 4)), jnp.arange(3))).all()


def test_a_length_that_is_traced_is_asked_for():
    encoding = Rope(schedule=DynamicNTK(2.0, 4))
    with pytest.raises(InputError, match="length is traced"):
        jax.jit(lambda n: attend(x, x, x, encoding=encoding, length=n))(9)
    assert whole(jnp.array(9), "length") == 9


def test_whole_numbers_and_integers_by_hand():
    assert whole(np.int8(3), "n") == 3 and type(whole(np.int8(3), "n")) is int
    for wrong in (True, np.bool_(True), 2**31, -1, "1", None, 1.0, np.float32(1)):
        with pytest.raises(InputError, match="n is"):
            whole(wrong, "n")
    assert integers([1, 2], "n", (1,), "needed").tolist() == [1, 2]
    with pytest.raises(InputError, match="n are bool: needed"):
        integers([True], "n", (1,), "needed")
    assert integers([True], "n", (1,), "needed", boolean=True).tolist() == [True]
