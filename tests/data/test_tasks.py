"""Every task keeps the contract, and every answer is the one that a slow reader finds in what stands before it."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from posjax import data
from posjax.data import Batches, DepthTask, Task
from posjax.errors import InputError

pytestmark = pytest.mark.versionless

SEED = 0


def answer_so_far(task, seen):
    """The question and what is said of its answer, of a text of them with a marker between."""
    place = seen.index(task.marker)
    return seen[:place], seen[place + 1 :]


def copied(task, seen):
    question, said = answer_so_far(task, seen)
    return question[len(said)]


def reversed_(task, seen):
    question, said = answer_so_far(task, seen)
    return question[len(question) - 1 - len(said)]


def odds_first(task, seen):
    question, said = answer_so_far(task, seen)
    order = sorted(range(len(question)), key=lambda place: (place % 2, place))
    return question[order[len(said)]]


def in_order(task, seen):
    question, said = answer_so_far(task, seen)
    return sorted(question)[len(said)]


def odd_ones(task, seen):
    return seen.count(1) % 2


def evaluated(task, seen):
    question, _ = answer_so_far(task, seen)
    spelled = [str(token) if token < task.modulus else "+-*"[token - task.modulus] for token in question]
    return eval(" ".join(spelled)) % task.modulus


def added(task, seen):
    question, said = answer_so_far(task, seen)
    both = "".join("0123456789+"[token] for token in question).split("+")
    if task.reverse:
        both = [number[::-1] for number in both]
    total = str(sum(map(int, both))).zfill(len(both[0]) + 1)
    if task.reverse:
        total = total[::-1]
    return int(total[len(said)])


def most_frequent(task, seen):
    question, _ = answer_so_far(task, seen)
    return Counter(question).most_common(1)[0][0]


def twin_of_the_blank(task, seen):
    question, _ = answer_so_far(task, seen)
    place = question.index(task.symbols)
    return question[(place + len(question) // 2) % len(question)]


def needle_of_key(task, seen):
    body, said = answer_so_far(task, seen)
    key_at = max(place for place, token in enumerate(said) if token < task.keys)
    needles = [divmod(token - task.marker - 1, task.values) for token in body if token > task.marker]
    values = [value for key, value in needles if key == said[key_at]]
    return task.keys + values[len(said) - 1 - key_at]


def followed(task, seen):
    body, (value, *said) = answer_so_far(task, seen)
    holds: dict[int, int] = {}
    place = 0
    while place < len(body):
        name, place = body[place], place + 1
        if name < task.names:
            source, place = body[place], place + 1
            holds[name] = holds.get(source, source)
    return [name for name, held in holds.items() if held == value][len(said)]


def common(task, seen):
    text, said = seen[: seen.index(task.words)], seen[seen.index(task.words) + 1 :]
    counts = Counter(text).most_common()
    assert counts[task.common - 1][1] >= task.ratio * counts[task.common][1]
    return sorted(word for word, _ in counts[: task.common])[len(said)]


def frequent(task, seen):
    text, said = seen[: seen.index(task.words)], seen[seen.index(task.words) + 1 :]
    counts = Counter(text).most_common()
    leading = [count for _, count in counts[: task.asked + 1]]
    assert len(set(leading)) == len(leading), "no two of them tie"
    return counts[len(said)][0]


def behind_its_twin(task, seen):
    *before, last = seen
    assert before.count(last) == 1
    return before[before.index(last) + 1]


def last_written(task, seen):
    writes = [place for place in range(0, len(seen), 2) if seen[place] == 2]
    return seen[writes[-1] + 1]


def shifted(task, seen):
    *letters, source, shift = seen
    shifts = [s for s in range(-task.shift, task.shift + 1) if s]
    assert letters.count(source) == 1
    place = letters.index(source) + shifts[shift - task.letters]
    assert place >= 0
    return letters[place]


READERS = {
    data.Copy: copied,
    data.Reverse: reversed_,
    data.OddsFirst: odds_first,
    data.Sort: in_order,
    data.Parity: odd_ones,
    data.ModularArithmetic: evaluated,
    data.Addition: added,
    data.Majority: most_frequent,
    data.MissingDuplicate: twin_of_the_blank,
    data.Needles: needle_of_key,
    data.MultiNeedles: needle_of_key,
    data.VariableTracking: followed,
    data.CommonWords: common,
    data.FrequentWords: frequent,
    data.AssociativeRecall: behind_its_twin,
    data.InductionAtDistance: behind_its_twin,
    data.FlipFlop: last_written,
    data.IndirectIndexing: shifted,
}
OTHERS = [
    data.Copy(symbols=2),
    data.ModularArithmetic(modulus=3),
    data.Addition(reverse=False),
    data.MultiNeedles(keys=5, values=7, fillers=2, needles=3, each=3, asked=2),
    data.MultiNeedles(needles=4, asked=4),
    data.VariableTracking(names=9, values=3, fillers=1, chains=3, hops=3),
    data.CommonWords(words=9, common=3, ratio=2),
    data.FrequentWords(words=6, asked=1, alpha=0.5),
    data.AssociativeRecall(keys=8, values=4, fillers=1, pairs=8),
    data.InductionAtDistance(symbols=5, bigrams=2),
    data.FlipFlop(ignore=1.0),
    data.IndirectIndexing(letters=4, shift=20),
]
TASKS = [kind() for kind in READERS] + OTHERS
LENGTH = 64

every_task = pytest.mark.parametrize("task", TASKS, ids=repr)
drawn_task = pytest.mark.parametrize("task", [task for task in TASKS if not isinstance(task, data.Needles)], ids=repr)


def of(rows, index):
    return {name: array[index] for name, array in rows.items()}


def drawn(task, count, length=LENGTH):
    return Batches(task.rows(length, SEED), size=count).batch(0)


def asked(row):
    return np.flatnonzero(row["weights"])


def test_every_task_has_its_reader():
    public = [getattr(data, name) for name in data.__all__]
    kinds = [kind for kind in public if isinstance(kind, type) and issubclass(kind, Task)]
    # A task of pairs is for an encoder and a decoder, and has tests of its own.
    assert {kind for kind in kinds if dataclasses.is_dataclass(kind) and kind.form == "tokens"} == set(READERS)


@every_task
def test_every_answer_follows_from_what_stands_before_it(task):
    for rows in (drawn(task, 40), task.questions(LENGTH, 20, SEED), task.questions(2 * LENGTH + 1, 5, SEED)):
        for index in range(len(rows["inputs"])):
            row = of(rows, index)
            for place in asked(row):
                seen = row["inputs"][: place + 1].tolist()
                assert READERS[type(task)](task, seen) == row["targets"][place]


@every_task
def test_rows_are_one_sequence_within_the_vocabulary(task):
    for rows in (drawn(task, 200), task.questions(LENGTH, 50, SEED)):
        assert {name: array.dtype for name, array in rows.items()} == {
            "inputs": np.int32,
            "targets": np.int32,
            "weights": np.float32,
        }
        assert {array.shape[1:] for array in rows.values()} == {(LENGTH,)}
        np.testing.assert_array_equal(rows["inputs"][:, 1:], rows["targets"][:, :-1])
        assert set(np.unique(rows["weights"])) <= {0.0, 1.0}
        assert (rows["weights"].sum(axis=1) > 0).all()
        tokens = np.concatenate([rows["inputs"], rows["targets"]], axis=1)
        assert tokens.min() == 0
        assert tokens.max() < task.vocabulary
    assert drawn(task, 200)["inputs"].max() == task.vocabulary - 1, "no token is spare"


@every_task
def test_rows_are_a_function_of_seed_and_index(task):
    rows = task.rows(LENGTH, SEED)
    np.testing.assert_equal(rows[7], task.rows(LENGTH, SEED)[7])
    others = (rows[8], task.rows(LENGTH, SEED + 1)[7], of(task.questions(LENGTH, 8, SEED), 7))
    for other in others:
        assert (rows[7]["inputs"] != other["inputs"]).any()
    questions = task.questions(LENGTH, 6, SEED)
    fewer = task.questions(LENGTH, 2, SEED)
    np.testing.assert_equal({name: array[:2] for name, array in questions.items()}, fewer)
    assert (questions["inputs"] != task.questions(LENGTH, 6, SEED + 1)["inputs"]).any()


@every_task
def test_training_rows_have_several_true_lengths_and_questions_fill_theirs(task):
    rows = drawn(task, 60)
    ends = {asked(of(rows, index))[-1] for index in range(60)}
    if not isinstance(task, data.AssociativeRecall):
        assert max(ends) >= LENGTH - 4
    assert len(ends) > 2
    for length in (LENGTH, 2 * LENGTH):
        questions = task.questions(length, 20, SEED)
        lasts = {asked(of(questions, index))[-1] for index in range(20)}
        # A question of some size may leave a token or two, and recall asks where it likes.
        assert max(lasts) >= length - 4 or isinstance(task, data.AssociativeRecall)


@every_task
def test_the_last_token_does_not_tell_the_answer(task):
    """Who knows only the token that is read, and how often it was followed by what, is mostly wrong."""
    rows = task.questions(LENGTH, 300, SEED)
    where = rows["weights"] > 0
    pairs = Counter(zip(rows["inputs"][where].tolist(), rows["targets"][where].tolist(), strict=True))
    best: Counter[int] = Counter()
    for (token, _), count in pairs.items():
        best[token] = max(best[token], count)
    most = min(0.8, task.chance + 0.35)
    if isinstance(task, data.Sort):
        most = 0.65  # Runs of equal symbols, as its docstring says.
    assert sum(best.values()) / where.sum() < most


@every_task
def test_chance_is_what_a_blind_guess_earns(task):
    rows = task.questions(LENGTH, 300, SEED)
    guesses = Counter(rows["targets"][rows["weights"] > 0].tolist())
    share = guesses.most_common(1)[0][1] / sum(guesses.values())
    # The leading digit of a sum is 0 or 1, and a guess may know what the answer is not, such as the source.
    assert task.chance - 0.12 < share < task.chance + 0.1


@drawn_task
def test_the_least_length_has_room_and_one_less_is_refused(task):
    assert asked(task.rows(task.least, SEED)[0]).size
    assert task.questions(task.least, 2, SEED)["inputs"].shape == (2, task.least)
    short = task.least - 1
    for use in (lambda: task.rows(short, SEED), lambda: task.questions(short, 1, SEED)):
        with pytest.raises(InputError, match=rf"length {short} has no room for .* needs {task.least} tokens"):
            use()
    with pytest.raises(InputError, match="count is 0"):
        task.questions(LENGTH, 0, SEED)


def sources(task, row):
    """Where that stands which is to be found."""
    inputs = row["inputs"]
    if isinstance(task, data.MultiNeedles):
        return np.flatnonzero(inputs > task.marker)
    if isinstance(task, data.VariableTracking):
        body = inputs[: inputs.tolist().index(task.marker)]
        return np.flatnonzero(body < task.names + task.values)
    firsts = inputs[asked(row)]
    if isinstance(task, data.IndirectIndexing):
        firsts = inputs[asked(row) - 1]
    return np.flatnonzero(np.isin(inputs[: asked(row)[0] - 1], firsts))


@pytest.mark.parametrize("depth", [0.0, 0.45, 0.9, 0.99])
@pytest.mark.parametrize("task", [task for task in TASKS if isinstance(task, DepthTask)], ids=repr)
def test_a_depth_places_what_is_to_be_found(task, depth):
    length = 256
    rows = task.queries(length, depth, 30, SEED)
    if isinstance(task, data.Needles):
        return  # Its own tests say where.
    for index in range(30):
        row = of(rows, index)
        body = asked(row)[0] - 1
        places = sources(task, row)
        width = max(places.size, body // 10)
        start = min(int(depth * body), body - width)
        # A band counts from a body that ends with the text, a token or two from the first question.
        assert start - 2 <= places.min() and places.max() <= start + width + 2
        for place in asked(row):
            assert READERS[type(task)](task, row["inputs"][: place + 1].tolist()) == row["targets"][place]


@pytest.mark.parametrize("task", [task for task in TASKS if isinstance(task, DepthTask)], ids=repr)
def test_depths_ask_the_same_and_none_lies_outside(task):
    far, near = (task.queries(128, depth, 10, SEED) for depth in (0.0, 0.9))
    assert (far["inputs"] != near["inputs"]).any()
    np.testing.assert_array_equal(far["weights"], near["weights"])
    if not isinstance(task, data.IndirectIndexing):
        np.testing.assert_array_equal(far["targets"] * far["weights"], near["targets"] * near["weights"])
    for depth in (-0.1, 1.0):
        with pytest.raises(InputError, match=f"depth is {depth}"):
            task.queries(128, depth, 1, SEED)


@pytest.mark.parametrize(
    "kind, wrong",
    [
        (data.Copy, {"symbols": 1}),
        (data.ModularArithmetic, {"modulus": 1}),
        (data.Majority, {"symbols": 1}),
        (data.MissingDuplicate, {"symbols": 1}),
        (data.MultiNeedles, {"asked": 9}),
        (data.MultiNeedles, {"needles": 17}),
        (data.MultiNeedles, {"each": 17}),
        (data.VariableTracking, {"hops": 17}),
        (data.VariableTracking, {"chains": 9}),
        (data.CommonWords, {"common": 24}),
        (data.CommonWords, {"ratio": 1}),
        (data.FrequentWords, {"asked": 24}),
        (data.FrequentWords, {"alpha": 3.5}),
        (data.AssociativeRecall, {"pairs": 17}),
        (data.InductionAtDistance, {"symbols": 5}),
        (data.FlipFlop, {"ignore": 0.0}),
        (data.IndirectIndexing, {"letters": 1}),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(kind, wrong):
    ((name, given),) = wrong.items()
    with pytest.raises(InputError, match=rf"^{kind.__name__} got .*{name}={given}"):
        kind(**wrong)


def test_the_order_of_the_tasks_of_symbols():
    symbols = np.array([3, 1, 2, 1, 0])
    arranged = {
        kind: kind().arranged(symbols).tolist() for kind in (data.Copy, data.Reverse, data.OddsFirst, data.Sort)
    }
    assert arranged == {
        data.Copy: [3, 1, 2, 1, 0],
        data.Reverse: [0, 1, 2, 1, 3],
        data.OddsFirst: [3, 2, 0, 1, 1],
        data.Sort: [0, 1, 1, 2, 3],
    }


def test_a_read_says_what_was_written_last_and_ignores_the_rest():
    row = of(data.FlipFlop(ignore=1.0).questions(11, 1, SEED), 0)
    assert row["inputs"][::2].tolist() == [2, 4, 4, 4, 4, 3]
    assert row["weights"].tolist() == [0.0] * 10 + [1.0]
    assert row["targets"][-1] == row["inputs"][1]
