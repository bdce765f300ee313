"""Excerpts and the package that each comes from."""

from __future__ import annotations

import numpy as np
import pytest

from posjax.data import Origins, StandardLibrary
from posjax.errors import InputError

DATA = Origins(packages=("asyncio", "email", "xml"))


@pytest.fixture(scope="module")
def excerpts():
    return DATA.load()


def test_rows_are_of_the_files_of_their_package(excerpts):
    rows = excerpts.rows(length=24, seed=3)
    for index in range(12):
        row = rows[index]
        text = row["inputs"].astype(np.uint8).tobytes()
        assert any(text in file for file in excerpts.train[int(row["classes"])])
        np.testing.assert_array_equal(row["inputs"], excerpts.rows(length=24, seed=3)[index]["inputs"])
    assert {int(rows[index]["classes"]) for index in range(40)} == {0, 1, 2}


def test_held_out_rows_are_of_held_out_files_as_many_of_each_class(excerpts):
    few, more = (excerpts.validation_rows(16, count, seed=0) for count in (3, 9))
    np.testing.assert_array_equal(few["inputs"], more["inputs"][:3])
    assert np.bincount(more["classes"]).tolist() == [3, 3, 3]
    for inputs, number in zip(more["inputs"], more["classes"], strict=True):
        assert any(inputs.astype(np.uint8).tobytes() in file for file in excerpts.validation[number])


def test_a_library_of_the_same_share_holds_out_the_same_files(excerpts):
    library = StandardLibrary(validation_share=DATA.validation_share).load()
    for files in excerpts.validation:
        assert set(files) <= set(library.validation)


def test_mistakes_are_refused(excerpts):
    for packages in (("email",), ("email", "email")):
        with pytest.raises(InputError, match="two or more, each once"):
            Origins(packages=packages)
    with pytest.raises(InputError, match="'no_such_thing'"):
        Origins(packages=("email", "no_such_thing")).load()
    with pytest.raises(InputError, match="the longest file has"):
        excerpts.rows(10**7, 0)
    with pytest.raises(InputError, match="ask for 1 or more"):
        excerpts.validation_rows(8, 0, 0)
