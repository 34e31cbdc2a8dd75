"""Admission: the limit, and the wait that is told."""

import pytest

from pipelines.serve.admission import LONGEST_WAIT_S, Admission
from pipelines.serve.errors import ApiError


class Clock:
    """Seconds set by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_request_after_the_last_place_is_refused():
    admission = Admission(2)
    with admission.admitted(), admission.admitted():
        with pytest.raises(ApiError) as refused, admission.admitted():
            pytest.fail("a third was let in")
        assert admission.in_flight == 2
    assert refused.value.status == 429
    assert refused.value.retry_after_s == 1.0


def test_a_failing_request_gives_its_place_back():
    admission = Admission(1)
    with pytest.raises(RuntimeError), admission.admitted():
        raise RuntimeError
    with admission.admitted():
        assert admission.in_flight == 1


def test_the_wait_follows_from_how_fast_requests_finish():
    clock = Clock()
    admission = Admission(100, clock)
    for clock.now in (0.0, 2.0, 4.0, 6.0):  # one each 2 s
        with admission.admitted():
            pass
    admission.in_flight = 10
    clock.now = 8.0
    # 4 finished in the last 8 s, so 10 take 20 s.
    assert admission.wait_s() == pytest.approx(20.0)


def test_the_wait_grows_while_nothing_finishes_and_stays_below_its_bound():
    clock = Clock()
    admission = Admission(100, clock)
    for clock.now in (0.0, 1.0):
        with admission.admitted():
            pass
    admission.in_flight = 4
    assert admission.wait_s() == pytest.approx(2.0)
    clock.now = 10.0
    assert admission.wait_s() == pytest.approx(20.0)
    clock.now = 1e6
    assert admission.wait_s() == LONGEST_WAIT_S


def test_the_wait_is_never_below_a_second():
    clock = Clock()
    admission = Admission(100, clock)
    for clock.now in (0.0, 0.001, 0.002):
        with admission.admitted():
            pass
    admission.in_flight = 1
    assert admission.wait_s() == 1.0
