"""The registry holds every encoding that the package exports, so the conformance suite misses none."""

import posjax
from posjax.encodings import REGISTRY, Encoding, RelativeBias


def test_the_registry_holds_what_the_package_exports():
    exported = {value for value in vars(posjax).values() if isinstance(value, type) and issubclass(value, Encoding)}
    assert len(exported) > 5 and exported - {Encoding, RelativeBias} <= set(REGISTRY)


def test_abstract_contracts_are_not_run_as_encodings():
    assert Encoding not in REGISTRY and RelativeBias not in REGISTRY
