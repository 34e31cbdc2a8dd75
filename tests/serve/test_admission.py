"""Admission: the limit, and the wait that is told."""

import contextlib

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


def held(admission, number):
    """That many requests in work, until the stack is closed."""
    stack = contextlib.ExitStack()
    for _ in range(number):
        stack.enter_context(admission.admitted())
    return stack


def finish(admission, clock, *times):
    """One more request a time, which ends then."""
    for clock.now in times:
        with admission.admitted():
            pass


def test_the_wait_follows_from_how_fast_requests_finish():
    clock = Clock()
    admission = Admission(100, clock)
    with held(admission, 10):
        finish(admission, clock, 0.0, 2.0, 4.0, 6.0)
        clock.now = 8.0
        # 4 finished in the last 8 s, so 10 take 20 s.
        assert admission.wait_s() == pytest.approx(20.0)


def test_the_wait_grows_while_nothing_finishes_and_stays_below_its_bound():
    clock = Clock()
    admission = Admission(100, clock)
    with held(admission, 4):
        finish(admission, clock, 0.0, 1.0)
        assert admission.wait_s() == pytest.approx(2.0)
        clock.now = 10.0
        assert admission.wait_s() == pytest.approx(20.0)
        clock.now = 1e6
        assert admission.wait_s() == LONGEST_WAIT_S


def test_the_wait_is_never_below_a_second():
    clock = Clock()
    admission = Admission(100, clock)
    with held(admission, 1):
        finish(admission, clock, 0.0, 0.001, 0.002)
        assert admission.wait_s() == 1.0


@pytest.mark.parametrize("idle_s", [0.0, 3600.0])
def test_hours_without_a_request_do_not_count(idle_s):
    clock = Clock()
    admission = Admission(24, clock)
    for _ in range(40):  # 20 a second, one after the other
        with admission.admitted():
            clock.now += 0.05
    clock.now += idle_s
    with held(admission, 24), pytest.raises(ApiError) as refused, admission.admitted():
        pytest.fail("one too many was let in")
    # Of 32 remembered ones, 31 finished in 31 x 0.05 s; so 24 take 24 x 1.55 / 32 s.
    assert refused.value.retry_after_s == pytest.approx(24 * 1.55 / 32)
