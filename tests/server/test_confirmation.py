"""Orders that cost more than the operator lets pass: the client's user is asked first, in both eras."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp_types import ElicitRequestParams, ElicitResult, ErrorData, Implementation

from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings, environment, seed_id, serving
from outpaint_mcp.settings import read_settings

from ..serving import ERAS, picture, server_for
from .test_app import text_of

pytestmark = pytest.mark.usefixtures("decoded_here")

YES = ElicitResult(action="accept", content={"order": True})
ORDER = {"task_id": seed_id("legnext", grid=False), "provider": "legnext", "zoom": 1.5, "wait_seconds": 0}


class User:
    """Answers what is asked, one answer after the other."""

    def __init__(self, answers: Sequence[ElicitResult | ErrorData]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult | ErrorData:
        self.asked.append(params.message)
        return self._answers.pop(0)


@contextlib.asynccontextmanager
async def served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, era: str, user: User | None, above: str = "0.01"
) -> AsyncIterator[tuple[Sandbox, Client]]:
    sandbox = Sandbox(SandboxSettings(seconds_per_state=60, painter=PlainPainter()))
    try:
        async with serving(sandbox) as base_url:
            monkeypatch.setenv("OUTPAINT_DATA_DIR", str(folder / "data"))
            monkeypatch.setenv("OUTPAINT_FILE_ROOTS", str(folder))
            monkeypatch.setenv("OUTPAINT_CONFIRM_ABOVE_USD", above)
            for name, value in environment(base_url).items():
                monkeypatch.setenv(name, value)
            server = server_for(read_settings())
            client_info = Implementation(name="mcp-inspector", version="1")
            async with Client(server, mode=era, client_info=client_info, elicitation_callback=user) as client:
                yield sandbox, client
    finally:
        sandbox.close()


@pytest.mark.parametrize("era", ERAS)
async def test_an_order_that_the_user_confirms_is_placed_once_and_its_repeat_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    user = User([YES, YES])
    async with served(tmp_path, monkeypatch, era, user) as (sandbox, client):
        first = await client.call_tool("outpaint", ORDER)
        again = await client.call_tool("outpaint", ORDER)
        assert first.structured_content["id"] == again.structured_content["id"]
        assert sandbox.order_count("legnext", "outpaint") == 1
        (question,) = user.asked
        assert question.startswith("Order this from Legnext (outpaint) for about $0.0")
        await client.call_tool("outpaint", {**ORDER, "zoom": 1.25})
        assert len(user.asked) == 2, "another order is another question"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "answer",
    [
        ElicitResult(action="decline"),
        ElicitResult(action="cancel"),
        ElicitResult(action="accept"),
        ElicitResult(action="accept", content={"order": False}),
        ElicitResult(action="accept", content={"order": "yes"}),
    ],
    ids=lambda answer: f"{answer.action} {answer.content}",
)
async def test_what_is_no_clear_yes_orders_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: str, answer: ElicitResult
) -> None:
    async with served(tmp_path, monkeypatch, era, User([answer])) as (sandbox, client):
        result = await client.call_tool("outpaint", ORDER)
        assert result.is_error
        assert text_of(result).startswith("[budget_exceeded] The user has not confirmed this order from Legnext")
        assert sandbox.order_count("legnext", "outpaint") == 0


async def test_a_client_that_fails_to_ask_has_not_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = User([ErrorData(code=-32603, message="no window")])
    async with served(tmp_path, monkeypatch, "legacy", user) as (sandbox, client):
        assert (await client.call_tool("outpaint", ORDER)).is_error
        assert len(user.asked) == 1
        assert sandbox.order_count("legnext", "outpaint") == 0


@pytest.mark.parametrize("era", ERAS)
async def test_who_cannot_ask_and_what_costs_less_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    async with served(tmp_path / "mute", monkeypatch, era, None) as (sandbox, client):
        assert not (await client.call_tool("outpaint", ORDER)).is_error
        assert sandbox.order_count("legnext", "outpaint") == 1
    user = User([])
    async with served(tmp_path, monkeypatch, era, user, above="0.5") as (sandbox, client):
        assert not (await client.call_tool("outpaint", ORDER)).is_error
        own = {"image": str(picture(tmp_path)), "provider": "local"}
        assert not (await client.call_tool("outpaint", own)).is_error
    assert user.asked == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_price_that_nobody_knows_is_asked_about_and_both_steps_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    user = User([ElicitResult(action="decline")])
    async with served(tmp_path, monkeypatch, era, user, above="5") as (sandbox, client):
        order = {**ORDER, "task_id": seed_id("piapi", grid=True), "provider": "piapi", "image_index": 1}
        assert (await client.call_tool("outpaint", order)).is_error
        assert sandbox.order_count("piapi", "upscale") == 0
    assert user.asked == ["Order this from PiAPI (upscale, then outpaint) for a price that is not known here?"]
