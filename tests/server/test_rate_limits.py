"""How much one client may ask, on a clock that the test moves."""

import pytest

from outpaint_mcp.domain.errors import RateLimitedError
from outpaint_mcp.server.rate_limits import FORGET_AT, RateLimits


class Seconds:
    """A clock that only the test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def allowed(limits: RateLimits, client: str = "ann", *, at_most: int = 2000) -> int:
    """How many requests the client may make at this moment."""
    for count in range(at_most):
        try:
            limits.count(client)
        except RateLimitedError:
            return count
    return at_most


@pytest.mark.parametrize("per_minute", [1, 2, 3, 10, 20])
def test_as_many_requests_may_come_at_once_as_in_a_minute_and_no_more(per_minute: int) -> None:
    assert allowed(RateLimits(requests_per_minute=per_minute, seconds=Seconds())) == per_minute


@pytest.mark.parametrize(("per_minute", "now"), [(600, 0.0), (300, 1000.3), (7, 123_456.789), (17, 9_000_000.1)])
def test_no_rounding_takes_a_request_away(per_minute: int, now: float) -> None:
    assert allowed(RateLimits(requests_per_minute=per_minute, seconds=Seconds(now))) == per_minute


def test_what_was_used_comes_back_one_by_one() -> None:
    clock = Seconds()
    limits = RateLimits(requests_per_minute=4, seconds=clock)
    assert allowed(limits) == 4
    clock.now += 14.9
    assert allowed(limits) == 0
    clock.now += 0.2
    assert allowed(limits) == 1
    clock.now += 30
    assert allowed(limits) == 2
    clock.now += 3600
    assert allowed(limits) == 4, "who was quiet for long has a minute's worth, not an hour's"


def test_who_keeps_below_the_limit_is_never_refused() -> None:
    clock = Seconds()
    limits = RateLimits(requests_per_minute=30, seconds=clock)
    for _ in range(600):
        limits.count("ann")
        clock.now += 2.01


def test_requests_that_are_refused_do_not_count() -> None:
    clock = Seconds()
    limits = RateLimits(requests_per_minute=2, seconds=clock)
    assert allowed(limits) == 2
    for _ in range(100):
        assert allowed(limits) == 0
    clock.now += 30.1
    assert allowed(limits) == 1


def test_a_refusal_says_when_to_come_again_and_then_is_none() -> None:
    clock = Seconds()
    limits = RateLimits(requests_per_minute=2, seconds=clock)
    assert allowed(limits) == 2
    clock.now += 5
    with pytest.raises(RateLimitedError) as refused:
        limits.count("ann")
    assert refused.value.retry_after == pytest.approx(25)
    assert str(refused.value).startswith("[rate_limited] More than 2 requests ")
    assert "Call again in 26 s." in str(refused.value)
    clock.now += 25.001
    limits.count("ann")


def test_callers_do_not_use_each_others_requests_up() -> None:
    limits = RateLimits(requests_per_minute=3, seconds=Seconds())
    assert allowed(limits, "ann") == 3
    assert allowed(limits, "bob") == 3
    assert allowed(limits, "ann") == 0


def test_callers_that_were_quiet_are_forgotten_and_busy_ones_are_not() -> None:
    clock = Seconds()
    limits = RateLimits(requests_per_minute=1, seconds=clock)
    for number in range(FORGET_AT):
        limits.count(f"quiet-{number}")
    clock.now += 61
    limits.count("ann")
    assert len(limits._free_at) == 1
    assert allowed(limits, "ann") == 0


def test_without_limits_everything_is_allowed() -> None:
    limits = RateLimits(seconds=Seconds())
    assert allowed(limits) == 2000
    with limits.waiting("ann"), limits.waiting("ann"), limits.waiting("ann"):
        pass


def test_only_so_many_calls_of_a_caller_wait_at_once() -> None:
    limits = RateLimits(waits=2)
    with limits.waiting("ann"):
        with limits.waiting("ann"):
            with pytest.raises(RateLimitedError, match="2 of your calls are waiting") as refused, limits.waiting("ann"):
                pytest.fail("the block was entered")
            assert "wait_seconds=0" in str(refused.value)
            with limits.waiting("bob"):
                pass
        with limits.waiting("ann"):
            pass


def test_a_call_that_ends_badly_no_longer_waits() -> None:
    limits = RateLimits(waits=1)
    for _ in range(3):
        with pytest.raises(KeyError), limits.waiting("ann"):
            raise KeyError
    with limits.waiting("ann"):
        pass


def test_nobody_is_remembered_who_does_not_wait() -> None:
    limits = RateLimits(waits=1)
    with limits.waiting("ann"), limits.waiting("bob"):
        pass
    assert not limits._waiting
