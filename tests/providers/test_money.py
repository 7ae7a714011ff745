"""The tables that say whether an order may have been taken."""

import httpx2
import pytest

from outpaint_mcp.providers.money import TAKEN_AFTER, Taken, taken_by_status


def test_the_table_of_failures_has_an_entry_for_every_error_of_the_network() -> None:
    assert issubclass(httpx2.TransportError, tuple(TAKEN_AFTER))
    certain = {kind for kind, (taken, _) in TAKEN_AFTER.items() if taken is Taken.NO}
    assert certain == {
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.PoolTimeout,
        httpx2.ProxyError,
        httpx2.UnsupportedProtocol,
        httpx2.InvalidURL,
    }


@pytest.mark.parametrize(
    ("status", "retry_after", "own_key", "taken"),
    [
        (302, False, False, Taken.NO),
        (400, False, False, Taken.NO),
        (408, False, False, Taken.MAYBE),
        (408, True, False, Taken.MAYBE),
        (409, False, False, Taken.NO),
        (409, False, True, Taken.MAYBE),
        (429, False, False, Taken.NO),
        (500, True, False, Taken.MAYBE),
        (502, False, False, Taken.MAYBE),
        (503, False, False, Taken.MAYBE),
        (503, True, False, Taken.NO),
        (504, False, False, Taken.MAYBE),
        (599, False, False, Taken.MAYBE),
    ],
)
def test_what_a_status_says_about_an_order(status: int, retry_after: bool, own_key: bool, taken: Taken) -> None:
    assert taken_by_status(status, has_retry_after=retry_after, has_own_key=own_key) is taken
