"""The view in hosts that offer little or behave oddly, and with tasks that are rare."""

from pathlib import Path
from typing import Any

import pytest

from ..transports.processes import an_order, seed_id
from .chat import Chat, own_image


async def test_a_host_that_lets_the_view_ask_nothing_is_said_to(chat: Chat) -> None:
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0}, deaf=True, capabilities={})
    await chat.run("await view.getByText('Ask in the chat for the task').waitFor()")
    await chat.is_sound()


async def test_an_image_that_cannot_be_read_can_be_asked_for_again(chat: Chat, tmp_path: Path) -> None:
    await chat.opened("outpaint", own_image(tmp_path), deaf=True, capabilities={})
    await chat.run("await view.getByText('The image cannot be shown').waitFor()")
    assert await chat.run("return await view.getByRole('slider').isVisible()") is False
    await chat.press("Try again")
    await chat.run("await view.getByText('The image cannot be shown').waitFor()")
    await chat.is_sound()


async def test_a_result_that_is_only_text_is_followed_and_one_that_comes_again_changes_nothing(
    chat: Chat, tmp_path: Path
) -> None:
    given = await chat.opened("outpaint", own_image(tmp_path, sides=["top"]))
    await chat.status("Done")
    await chat.press("Extend further")
    await chat.press("Extend it")
    await chat.run("await view.getByRole('button', { name: 'Back to the image before' }).waitFor()")
    title = await chat.run("return await view.locator('#title').textContent()")
    await chat.run("await page.evaluate((result) => send_result(result), args.result)", result=given["result"])
    assert await chat.run("return await view.locator('#title').textContent()") == title

    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0})
    text: dict[str, Any] = {"content": given["result"]["content"]}
    await chat.run("await page.evaluate((result) => send_result(result), args.result)", result=text)
    await chat.titled("240")


async def test_a_view_that_nobody_sees_waits_for_nothing_and_asks_at_once_when_it_is_seen(chat: Chat) -> None:
    hidden = "Object.defineProperty(Document.prototype, 'hidden', { get: () => !window.visible });"
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0}, script=hidden)
    await chat.run("await page.waitForFunction(() => seen.calls.length)")
    assert [one["arguments"]["wait_seconds"] for one in (await chat.seen())["calls"]] == [0]
    chat.vendors.finish()
    await chat.run(
        "await view.evaluate(() => { window.visible = true; document.dispatchEvent(new Event('visibilitychange')); });"
        "await view.locator('#status').filter({ hasText: 'Done' }).waitFor({ timeout: 12000 })"
    )


async def test_the_other_side_is_offered_only_where_the_provider_takes_sides(chat: Chat) -> None:
    image = f"{chat.vendors.base_url}/images/legnext/{seed_id('legnext', grid=False)}/0.png"
    order = {key: value for key, value in an_order(grid=False).items() if key != "task_id"}
    await chat.opened("outpaint", {**order, "image": image, "sides": ["left"], "wait_seconds": 0})
    chat.vendors.finish()
    await chat.status("Done")
    await chat.run("await view.getByText('drawn anew by the provider').waitFor()")
    assert await chat.run("return await view.getByRole('button', { name: 'Other side' }).isVisible()") is False


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "cancelled"}, "It was cancelled"),
        ({"status": "unknown", "failure": {"code": "timed_out", "message": "Late."}}, "It takes longer than expected"),
        ({"expires_at": "2026-01-02T03:04:05Z"}, "Links expired"),
        ({"notes": ["<b>scaled</b>"]}, "<b>scaled</b>"),
        ({"confidence": {"left": "high", "right": "low"}}, "left high, right low"),
    ],
)
async def test_what_a_task_says_stands_in_words(
    chat: Chat, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    await chat.opened("outpaint", own_image(tmp_path), changes=changes)
    await chat.run("await view.getByText(args.words).waitFor({ state: 'attached' })", words=words)
    await chat.is_sound()


async def test_nothing_moves_for_who_wants_less_motion(chat: Chat) -> None:
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0})
    await chat.status("Waiting in line")
    moving = "return await view.evaluate(() => document.getAnimations().length)"
    assert await chat.run(moving) == 1
    await chat.run("await page.emulateMedia({ reducedMotion: 'reduce' })")
    assert await chat.run(moving) == 0
    chat.vendors.finish()
