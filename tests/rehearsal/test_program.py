"""What is read from the text of a compiled program, on texts of a few lines whose numbers are counted by hand."""

import pytest

from posjax.rehearsal.program_text import read
from posjax.rehearsal.traffic import Collective, collectives, memory_bytes

LOOP = """HloModule jit_f, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%cut (p: f32[5,64], n: s32[]) -> f32[64] {
  %p = f32[5,64]{1,0} parameter(0)
  %n = s32[] parameter(1)
  %zero = s32[] constant(0)
  %part = f32[1,64]{1,0} dynamic-slice(%p, %n, %zero), dynamic_slice_sizes={1,64}
  ROOT %row = f32[64]{0} bitcast(%part)
}

%body (s: (s32[], f32[5,64])) -> (s32[], f32[5,64]) {
  %s = (s32[], f32[5,64]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%s), index=0
  %all = f32[5,64]{1,0} get-tuple-element(%s), index=1
  %row = f32[64]{0} fusion(%all, %n), kind=kLoop, calls=%cut
  %whole = f32[512]{0} all-gather(%row), channel_id=3, GROUPS, dimensions={0}
  ROOT %next = (s32[], f32[5,64]{1,0}) tuple(%n, %all)
}

%condition (s: (s32[], f32[5,64])) -> pred[] {
  %s = (s32[], f32[5,64]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%s), index=0
  BOUND
  ROOT %less = pred[] compare(%n, %bound), direction=LT
}

ENTRY %main (x: f32[5,64]) -> f32[5,64] {
  %x = f32[5,64]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %begin = (s32[], f32[5,64]{1,0}) tuple(%zero, %x)
  %near = f32[5,64]{1,0:T(8,128)S(1)} copy(%x)
  %end = (s32[], f32[5,64]{1,0}) while(%begin), condition=%condition, body=%body
  ROOT %y = f32[5,64]{1,0} get-tuple-element(%end), index=1
}
"""
EIGHT = "replica_groups=[1,8]<=[8]"
FIVE = "%bound = s32[] constant(5)"


def program(groups: str = EIGHT, bound: str = FIVE, text: str = LOOP):
    return read(text.replace("GROUPS", groups).replace("BOUND", bound))


def test_a_loop_counts_its_rounds():
    assert program().times() == {"add": 0, "cut": 5, "body": 5, "condition": 5, "main": 1}
    assert collectives(program()) == (Collective("all-gather", 8, 5, 5 * 2048.0),)


def test_rounds_that_the_compiler_tells_come_first():
    told = LOOP.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}')
    assert program(text=told).times()["body"] == 7


def test_a_loop_of_unknown_length_has_the_rounds_that_are_given():
    unknown = program(bound="%bound = s32[] add(%n, %n)")
    assert unknown.times()["body"] == 1
    assert unknown.times(2.5)["body"] == 2.5
    assert collectives(unknown, 2.5)[0].size == 2.5 * 2048


def test_memory_is_what_lies_in_the_main_one():
    # A round reads a row, writes it, reads it to send it, and writes eight; the number of the row is read too.
    a_round = 256 + 4 + 256 + 256 + 2048
    compares = 5 * (1 + 4 + 4)
    # The copy writes to a faster memory.
    copied = 5 * 64 * 4
    assert memory_bytes(program()) == 5 * a_round + compares + copied


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", 4),
        ("replica_groups={}", 8),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_0'}", 4),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1':(2)2}", 4),
    ],
)
def test_every_way_to_write_groups_is_known(groups, devices):
    assert collectives(program(groups))[0].devices == devices


def test_another_way_is_not_passed_over():
    with pytest.raises(ValueError, match="way that is not known"):
        collectives(program("groups=of two"))


def test_a_collective_that_is_written_twice_is_one():
    line = next(line for line in LOOP.splitlines() if "all-gather" in line)
    twice = LOOP.replace(line, f"{line}\n{line.replace('%whole', '%again')}")
    assert collectives(program(text=twice)) == collectives(program())
    # All permutes have one number, and are as many as are written.
    permutes = twice.replace("all-gather", "collective-permute").replace("GROUPS", "source_target_pairs={{0,1},{1,0}}")
    assert collectives(program(text=permutes)) == (Collective("collective-permute", 8, 10, 10 * 2048.0),)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [("all-gather", 7.0), ("all-reduce", 14.0), ("reduce-scatter", 56.0), ("collective-permute", 8.0)],
)
def test_what_a_ring_sends(kind, sent):
    assert Collective(kind, devices=8, count=1, size=8.0).over_links == sent
