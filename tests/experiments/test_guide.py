"""The guide says nothing that a claim does not hold: each sentence names one, with the verdict that it has."""

from __future__ import annotations

import re
from functools import cache

import pytest

from experiments.claims import CLAIMS
from experiments.claims.base import decide
from experiments.records import tables
from tests.test_configs import ROOT

GUIDE = (ROOT / "docs/guide.md").read_text()
CITED = re.findall(r"\(\[([a-z0-9-]+)\]\(claims\.md#([a-z0-9-]+)\): ([a-z ]+)\)", GUIDE)
records = cache(tables)
BY_NAME = {claim.name: claim for claim in CLAIMS}


def test_the_guide_cites_claims():
    assert len(CITED) > 20


@pytest.mark.parametrize(("name", "place", "kind"), CITED, ids=lambda text: text[:30])
def test_a_cited_verdict_is_the_one_of_record(name, place, kind):
    assert place == name
    assert decide(BY_NAME[name], records()).kind == kind


def test_each_sentence_of_advice_cites_one():
    advice = GUIDE[: GUIDE.index("## Why to believe it")]
    items = re.split(r"^- ", advice, flags=re.M)[1:]
    bare = [item for item in items if not re.search(r"claims\.md#", item)]
    assert [item.split("\n")[0] for item in bare] == ["So ask first whether the far text is needed at all."]
