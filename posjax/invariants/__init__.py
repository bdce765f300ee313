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
)
from posjax.invariants.attending import (
    assert_decode as assert_decode,
)
from posjax.invariants.attending import (
    assert_gradients as assert_gradients,
)
from posjax.invariants.attending import (
    assert_packing as assert_packing,
)
from posjax.invariants.attending import (
    causal as causal,
)
from posjax.invariants.attending import (
    decode as decode,
)
from posjax.invariants.attending import (
    gradients as gradients,
)
from posjax.invariants.attending import (
    packing as packing,
)
from posjax.invariants.finding import Finding as Finding
from posjax.invariants.finding import asserting as asserting
from posjax.invariants.hooks import (
    OFFSETS as OFFSETS,
)
from posjax.invariants.hooks import (
    assert_distinct as assert_distinct,
)
from posjax.invariants.hooks import (
    assert_relative as assert_relative,
)
from posjax.invariants.hooks import (
    assert_tile as assert_tile,
)
from posjax.invariants.hooks import (
    distinct as distinct,
)
from posjax.invariants.hooks import (
    scores as scores,
)
from posjax.invariants.hooks import (
    tile as tile,
)
from posjax.invariants.suite import check as check
from posjax.invariants.suite import table as table
