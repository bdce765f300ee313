"""Assertions that a user runs on any encoding, theirs included: that it does what an encoding must.

Each law is measured by one function that returns a `Finding`, the worst error and the input that gave it. The
assertions raise `AssertionError` where a finding is past what is allowed; `check` runs all laws and prints a table.

Every assertion here obeys chex, as chex's own do: after `chex.disable_asserts()` it measures nothing and returns, until
`chex.enable_asserts()`. What measures and asserts nothing (`tile`, `decode`, …, `check`) always measures. Under `jit`,
`assert_relative` alone works, in a function wrapped by `chex.chexify`; whether it is on is then asked while tracing.

Hooks and attention run compiled, as a model runs them. Each law compiles anew, so nothing of an earlier one is used.
"""

from posjax.invariants.attending import (
    assert_causal as assert_causal,
    assert_decode as assert_decode,
    assert_gradients as assert_gradients,
    assert_packing as assert_packing,
    causal as causal,
    decode as decode,
    gradients as gradients,
    packing as packing,
)
from posjax.invariants.finding import Finding as Finding, asserting as asserting
from posjax.invariants.following import (
    assert_length as assert_length,
    assert_temperature as assert_temperature,
    temperature as temperature,
)
from posjax.invariants.hooks import (
    OFFSETS as OFFSETS,
    assert_distinct as assert_distinct,
    assert_relative as assert_relative,
    assert_tile as assert_tile,
    distinct as distinct,
    scores as scores,
    tile as tile,
)
from posjax.invariants.suite import check as check, table as table
