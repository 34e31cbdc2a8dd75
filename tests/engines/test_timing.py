"""Medians are of the calls asked for, after the warm-up."""

import time

from pipelines.engines.timing import WARM_UP, median_ms, race_ms


def test_items_are_taken_in_turn():
    seen = []
    assert median_ms(seen.append, ["a", "b", "c"], calls=4) >= 0
    assert seen == list("abcabcabcabc")[: WARM_UP + 4]


def test_the_slower_call_of_a_race_takes_longer():
    fast, slow = race_ms([lambda: None, lambda: time.sleep(0.004)], rounds=5)
    assert slow >= 4 > fast
