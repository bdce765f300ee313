from collections import Counter

import grain
import numpy as np
import pytest

from posjax.data import Batches, Mixture, Packed, StandardLibrary, StoredText, Text, mixed, prepare, training_rows
from posjax.data.mixture import MixtureSchedule
from posjax.errors import InputError
from tests.data.test_corpus import fill
from tests.data.tokenizers_of_tests import by_bytes, by_characters

pytestmark = pytest.mark.versionless


def parts_of(count: int) -> list[grain.MapDataset]:
    return [grain.MapDataset.range(10**6).map(lambda index, part=part: (part, index)) for part in range(count)]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (0.1, 0.2, 0.7), (1e-6, 1.0), (5.0, 1.0, 1.0, 2.5, 0.01)])
@pytest.mark.parametrize("seed", [0, 9])
def test_every_prefix_has_the_shares_and_every_part_its_own_order(weights, seed):
    rows = mixed(parts_of(len(weights)), weights, seed)
    counts = Counter()
    for index in range(3000):
        part, place = rows[index]
        assert place == counts[part]
        counts[part] += 1
        for number, weight in enumerate(weights):
            assert abs(counts[number] - (index + 1) * weight / sum(weights)) < len(weights)


def test_shares_hold_at_any_distance():
    schedule = MixtureSchedule.of((0.1, 0.2, 0.7), 0)
    far = 2**39
    counts = [0, 0, 0]
    for index in range(far, far + 50):
        part, place = schedule.place(index)
        counts[part] = place
    for count, weight in zip(counts, (0.1, 0.2, 0.7), strict=True):
        assert abs(count - far * weight) < 60


def test_the_seed_chooses_where_the_order_begins():
    starts = {mixed(parts_of(2), (1.0, 9.0), seed)[0][0] for seed in range(60)}
    assert starts == {0, 1}


def texts(tmp_path, share=0.3):
    one = fill(tmp_path / "one", {f"{n}.txt": b"to be or not to be " * 9 for n in range(6)})
    two = fill(tmp_path / "two", {f"{n}.txt": b"that is the question " * 9 for n in range(6)})
    return Text((str(one),), share), Text((str(two),), share)


def test_rows_of_a_part_are_those_of_the_part_alone(tmp_path):
    one, two = texts(tmp_path)
    rows = training_rows(Mixture(((one, 1.0), (two, 2.0))).load(), 8, 5)
    alone = [training_rows(text.load(), 8, 5) for text in (one, two)]
    schedule = MixtureSchedule.of((1.0, 2.0), 5)
    for index in range(30):
        part, place = schedule.place(index)
        np.testing.assert_array_equal(rows[index]["inputs"], alone[part][place]["inputs"])


def test_any_split_of_a_batch_is_the_batch(tmp_path):
    """The whole batch, and what 1, 2, 3 or 6 processes read of it."""
    one, two = texts(tmp_path)
    prepare(two, tmp_path / "made")
    for packed in (False, True):
        parts = [Packed(data) if packed else data for data in (one, StoredText(str(tmp_path / "made")))]
        rows = training_rows(Mixture(((parts[0], 1.0), (parts[1], 2.0))).load(), 8, 5)
        for step in (0, 7, 3, 10**9):
            whole = Batches(rows, 6).batch(step)
            for processes in (1, 2, 3, 6):
                each = 6 // processes
                shares = [Batches(rows, 6).rows(step, start, start + each) for start in range(0, 6, each)]
                for name, array in whole.items():
                    np.testing.assert_array_equal(np.concatenate([share[name] for share in shares]), array)


def test_it_is_measured_on_all_parts(tmp_path):
    one, two = texts(tmp_path)
    documents = Mixture(((one, 1.0), (two, 2.0))).load()
    alone = [text.load() for text in (one, two)]
    for side in ("train", "validation"):
        for kind in ("bytes", "files"):
            name = f"{side}_{kind}"
            assert documents.describe()[name] == sum(int(part.describe()[name]) for part in alone)
    found = [bytes(file[:].tolist()) for file in documents.tokens.validation]
    assert found == [*alone[0].validation, *alone[1].validation]


def test_the_fingerprint_follows_parts_and_weights(tmp_path):
    one, two = texts(tmp_path)
    mixtures = [((one, 1.0), (two, 2.0)), ((one, 1.0), (two, 3.0)), ((two, 2.0), (one, 1.0)), ((one, 1.0), (one, 2.0))]
    found = [Mixture(parts).load().fingerprint for parts in mixtures]
    assert len(set(found)) == 4 and found[0] == Mixture(mixtures[0]).load().fingerprint


def test_parts_of_several_kinds_are_refused_by_name(tmp_path):
    one, two = texts(tmp_path)
    by_tokens = Text(two.paths, 0.3, str(by_bytes(tmp_path)), "<s>")
    others = Text(two.paths, 0.3, str(by_characters(tmp_path)), "<s>")
    with pytest.raises(InputError, match=r"StandardLibrary\(.* has 257 tokens and Text\(.*bytes.json.* 29\d tokens"):
        _ = Mixture(((StandardLibrary(), 1.0), (by_tokens, 1.0))).vocabulary
    with pytest.raises(InputError, match=r"Text\(.*characters.json"):
        Mixture(((by_tokens, 1.0), (others, 1.0))).load()
    with pytest.raises(InputError, match=r"windows and .* packed rows"):
        Mixture(((one, 1.0), (Packed(two), 1.0))).load()
    with pytest.raises(InputError, match=r"weight 0.0"):
        Mixture(((one, 1.0), (two, 0.0)))
    with pytest.raises(InputError, match="two or more"):
        Mixture(((one, 1.0),))
    with pytest.raises(InputError, match="2 parts have 1 weights"):
        mixed(parts_of(2), (1.0,), 0)


def test_as_many_tokens_of_another_tokenizer_are_refused(tmp_path):
    one, two = texts(tmp_path)
    path = by_bytes(tmp_path)
    other = tmp_path / "other.json"
    other.write_text(path.read_text() + "\n")
    parts = (Text(one.paths, 0.3, str(path), "<s>"), Text(two.paths, 0.3, str(other), "<s>"))
    with pytest.raises(InputError, match=r"one tokenizer and .* another one"):
        Mixture(((parts[0], 1.0), (parts[1], 1.0))).load()
