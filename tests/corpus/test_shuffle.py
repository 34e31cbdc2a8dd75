"""Records brought together by key: the same for any share, and each one once."""

from functools import partial

import numpy as np
import pytest

from pipelines.core.artifact import Workspace
from pipelines.core.storage import Store
from pipelines.corpus import shuffle
from pipelines.corpus.shuffle import KEYED, runs

PAIR = np.dtype([("a", "i8"), ("b", "i8")])


@pytest.fixture
def out(tmp_path):
    return Workspace.take(Store.at(str(tmp_path)))


def records(part):
    """Documents 0..4 of a part, with keys that other parts have."""
    found = np.zeros(5, KEYED)
    found["key"] = np.arange(5) * 7 + part % 2
    found["document"] = [shuffle.document(part, row) for row in range(5)]
    return found


def test_runs_are_consecutive_parts_of_about_a_share():
    assert runs([3, 3, 3, 9, 1, 1], 6) == [range(2), range(2, 3), range(3, 4), range(4, 6)]
    assert runs([], 6) == []
    assert runs([0, 0], 6) == [range(2)]


@pytest.mark.parametrize("ranges", [1, 3])
def test_all_records_of_a_key_meet_in_one_range_in_order_of_documents(out, ranges):
    parts = list(enumerate(runs([5] * 4, 10)))
    for run in reversed(parts):
        shuffle.scatter(out, "f", records, ranges, run)
    found = [shuffle.gather(out, "f", at, len(parts)) for at in range(ranges)]
    assert sum(map(len, found)) == 20
    for one in found:
        for key in set(one["key"].tolist()):
            documents = one["document"][one["key"] == key].tolist()
            assert len(documents) == 2
            assert documents == sorted(documents)


def test_what_ranges_find_comes_back_to_each_part_once_and_sorted(out):
    parts = [range(1), range(1, 3)]
    document = partial(shuffle.document, row=0)
    found = np.array([(document(2), 5), (document(0), 4), (document(1), 9)], PAIR)
    again = np.array([(document(1), 3), (document(1), 9)], PAIR)
    for at, records in enumerate((found, again)):
        shuffle.send(out, "f", records, "a", at, parts)
    for run in enumerate(parts):
        shuffle.receive(out, "f", PAIR, "a", 2, run)
    back = [shuffle.load(out, shuffle.by_part("f", part))["b"].tolist() for part in range(3)]
    assert back == [[4], [3, 9], [5]]


def test_a_task_called_again_writes_nothing_new(out):
    shuffle.scatter(out, "f", records, 2, (0, range(1)))
    shuffle.scatter(out, "f", lambda part: 1 / 0, 2, (0, range(1)))
