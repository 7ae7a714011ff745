"""The view in a chat, as users see it."""

import base64
from pathlib import Path

import pytest

from ..transports.processes import an_order
from .chat import Chat, own_image

TIMES = "\N{MULTIPLICATION SIGN}"
ERAS = ("auto", "legacy")


@pytest.mark.parametrize("mode", ERAS)
async def test_a_running_task_shows_its_progress_and_then_four_images_to_choose_from(chat: Chat, mode: str) -> None:
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0}, mode=mode)
    await chat.status("Waiting in line")
    await chat.screenshot(f"running-{mode}.png")
    await chat.is_sound()
    chat.vendors.finish()
    await chat.status("Done")
    assert await chat.shown() == (384, 384)
    assert await chat.run("return await view.getByRole('radio').count()") == 4
    await chat.run("await view.getByRole('radio', { name: 'Image 3' }).click()")
    (told,) = (await chat.seen())["contexts"]
    assert "image 3 of task op-" in told["content"][0]["text"]
    assert await chat.run("return await view.locator('#after').getAttribute('alt')") == (
        f"Outpainted image 3, 384 {TIMES} 384 pixels"
    )
    await chat.screenshot(f"four-{mode}.png")
    await chat.is_sound()


async def test_before_and_after_show_the_original_at_its_place(chat: Chat, tmp_path: Path) -> None:
    await chat.opened("outpaint", own_image(tmp_path, sides=["left"]))
    await chat.status("Done")
    assert await chat.shown() == (360, 160)
    assert await chat.run("return await view.locator('#before').isVisible()") is False
    slider = "view.getByRole('slider')"
    await chat.run(f"await {slider}.focus(); await {slider}.press('End')")
    assert await chat.run(f"return await {slider}.getAttribute('aria-valuetext')") == "before"
    place, sheet = await chat.run(
        "return await view.evaluate(() => ['place', 'sheet'].map((id) => {"
        " const box = document.getElementById(id).getBoundingClientRect(); return [box.left, box.right, box.top]; }))"
    )
    # The image is shown in its own size; the new area is the third on the left.
    assert place == pytest.approx([sheet[0] + 120, sheet[1], sheet[2]], abs=1)
    await chat.screenshot("before.png")
    await chat.is_sound()
    await chat.run(
        "const box = await view.locator('#sheet').boundingBox(); const y = box.y + 20;"
        "await page.mouse.move(box.x + 10, y); await page.mouse.down();"
        "await page.mouse.move(box.x + box.width / 2, y, { steps: 3 }); await page.mouse.up()"
    )
    assert await chat.run(f"return await {slider}.getAttribute('aria-valuetext')") == "50 % before"


async def test_the_other_side_is_ordered_with_two_presses_and_followed(chat: Chat, tmp_path: Path) -> None:
    await chat.opened("outpaint", own_image(tmp_path, sides=["top"]))
    await chat.status("Done")
    await chat.press("Other side")
    await chat.run("await view.getByText('Local engine: free.').waitFor()")
    sides = "return await view.locator('[name=side]:checked').evaluateAll((all) => all.map((one) => one.value))"
    assert await chat.run(sides) == ["bottom"]
    assert [one["name"] for one in (await chat.seen())["calls"]] == ["list_providers"], "nothing is ordered yet"
    await chat.screenshot("order.png")
    await chat.is_sound()
    await chat.press("Extend it")
    await chat.titled(f"240 {TIMES} 360")
    orders = [one["arguments"] for one in (await chat.seen())["calls"] if one["name"] == "outpaint"]
    assert [(one["sides"], one["zoom"]) for one in orders] == [(["bottom"], 1.5)]
    await chat.press("Back to the image before")
    await chat.titled(f"240 {TIMES} 240")


async def test_a_vendors_price_is_said_before_and_a_double_press_orders_once(chat: Chat) -> None:
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0})
    chat.vendors.finish()
    await chat.status("Done")
    await chat.run("await view.getByRole('radio', { name: 'Image 4' }).click()")
    before = chat.vendors.sandbox.order_count("legnext", "outpaint")
    await chat.press("Extend further")
    await chat.run("await view.getByText('80 points ($0.08) per outpaint').waitFor()")
    assert await chat.run("return await view.locator('#sides').isVisible()") is False, "Midjourney grows on all sides"
    await chat.run("await view.getByRole('button', { name: 'Place the order' }).dblclick()")
    await chat.status("Waiting in line")
    chat.vendors.finish()
    await chat.status("Done")
    assert chat.vendors.sandbox.order_count("legnext", "outpaint") == before + 1
    (order,) = [one["arguments"] for one in (await chat.seen())["calls"] if one["name"] == "outpaint"]
    assert order["image_index"] == 4


async def test_a_task_that_failed_says_why(chat: Chat) -> None:
    chat.vendors.fault("submit", "fail", message="The painter has left")
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0})
    chat.vendors.finish()
    await chat.status("It failed")
    await chat.run("await view.getByText('The painter has left').waitFor()")
    await chat.screenshot("failed.png")
    await chat.is_sound()


async def test_an_order_that_may_have_been_taken_says_what_to_do_and_can_be_asked_for(chat: Chat) -> None:
    chat.vendors.fault("submit", "drop", accepted=True)
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 5})
    await chat.status("It is not known whether the order was taken")
    await chat.run("await view.getByText('charged a second time').waitFor()")
    await chat.press("Try again")
    await chat.status("It is not known whether the order was taken")
    assert [one["name"] for one in (await chat.seen())["calls"]] == ["get_task"]
    await chat.screenshot("unknown.png")
    await chat.is_sound()


async def test_an_image_that_has_expired_is_said_to_be_gone(chat: Chat) -> None:
    chat.vendors.fault("image", "gone", times=None)
    try:
        await chat.opened("outpaint", {**an_order(), "wait_seconds": 0})
        chat.vendors.finish()
        await chat.status("Done")
        await chat.run("await view.getByText('The image cannot be shown').waitFor()")
        await chat.screenshot("expired.png")
        await chat.is_sound()
    finally:
        chat.vendors.sandbox.faults.clear()


async def test_a_refused_call_shows_its_sentence(chat: Chat) -> None:
    await chat.opened("outpaint", {**an_order(), "zoom": 0.5})
    await chat.status("zoom")
    text = await chat.run("return await view.locator('#status').textContent()")
    assert not text.startswith("[")
    await chat.is_sound()


async def test_everything_can_be_done_with_the_keyboard(chat: Chat, tmp_path: Path) -> None:
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0})
    chat.vendors.finish()
    await chat.status("Done")
    await chat.shown()
    reached = await chat.run(
        "await view.locator('body').evaluate(() => document.body.focus()); await page.locator('iframe').focus();"
        "const names = []; for (let n = 0; n < 12; n++) { await page.keyboard.press('Tab');"
        " names.push(await view.evaluate(() => { const it = document.activeElement;"
        " return it.getAttribute('aria-label')?.split(/[.:]/)[0] || it.textContent.trim(); })); } return names"
    )
    wanted = [
        "Image",
        "Before and after",
        "Zoom in",
        "Fit",
        "Image 1",
        "Extend further",
        "Copy link",
        "Download",
        "Open",
    ]
    assert reached[: len(wanted)] == wanted
    await chat.run(
        "await view.locator('#stage').focus(); await page.keyboard.press('+'); await page.keyboard.press('ArrowRight')"
    )
    assert "scale(1.5)" in await chat.run("return await view.locator('#sheet').getAttribute('style')")
    await chat.run("await page.keyboard.press('0')")
    await chat.run("await view.getByRole('radio', { name: 'Image 1' }).focus(); await page.keyboard.press('ArrowLeft')")
    assert await chat.run("return await view.evaluate(() => document.activeElement.ariaLabel)") == "Image 4"
    # Whoever presses Enter twice has not ordered.
    await chat.run("const extend = view.getByRole('button', { name: 'Extend further' }); await extend.press('Enter')")
    await chat.run("await view.locator('#order:focus').waitFor(); await page.keyboard.press('Enter')")
    await chat.run("await view.getByText('80 points ($0.08) per outpaint').waitFor()")
    await chat.run("await page.keyboard.press('Enter'); await page.keyboard.press('Escape')")
    assert {one["name"] for one in (await chat.seen())["calls"]} == {"get_task", "list_providers"}
    assert await chat.run("return await view.evaluate(() => document.activeElement.id)") == "extend"


async def test_it_is_at_home_in_the_dark_and_on_a_narrow_screen(chat: Chat, tmp_path: Path) -> None:
    style = {"variables": {"--color-background-primary": "rgb(20, 30, 40)", "--font-sans": "serif"}}
    context = {"theme": "dark", "styles": style, "availableDisplayModes": ["inline", "fullscreen"]}
    await chat.opened("outpaint", own_image(tmp_path, sides=["left"]), context=context, width=320, height=700)
    await chat.status("Done")
    await chat.shown()
    await chat.press("Extend further")
    await chat.run("await view.getByText('Local engine: free.').waitFor()")
    assert await chat.run("return await view.evaluate(() => document.documentElement.scrollWidth)") <= 320
    assert await chat.run("return await view.evaluate(() => getComputedStyle(document.body).backgroundColor)") == (
        "rgb(20, 30, 40)"
    )
    await chat.screenshot("dark-320.png")
    await chat.is_sound()
    await chat.press("Full screen")
    assert (await chat.seen())["modes"] == ["fullscreen"]
    await chat.run("await page.evaluate(() => set_context({ theme: 'light' }))")
    await chat.run("await view.locator('html[data-theme=light]').waitFor()")


async def test_links_and_files_go_through_the_host_or_are_given_by_hand(chat: Chat) -> None:
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0})
    chat.vendors.finish()
    await chat.status("Done")
    await chat.shown()
    await chat.press("Open")
    await chat.press("Download")
    await chat.run("await page.waitForFunction(() => seen.downloads.length)")
    seen = await chat.seen()
    assert seen["links"][0].startswith(chat.vendors.base_url)
    resource = seen["downloads"][0][0]["resource"]
    assert resource["mimeType"] == "image/png"
    assert base64.b64decode(resource["blob"]).startswith(b"\x89PNG")
    await chat.press("Copy link")
    await chat.run("await view.locator('#said').filter({ hasText: /^http|is copied/ }).waitFor()")
    await chat.opened(
        "outpaint", {**an_order(), "wait_seconds": 0}, capabilities={"serverTools": {}, "serverResources": {}}
    )
    chat.vendors.finish()
    await chat.status("Done")
    assert await chat.run("return await view.getByRole('button', { name: 'Open' }).isVisible()") is False
    await chat.run("await view.getByRole('radio', { name: 'Image 2' }).click()")
    await chat.press("Download")
    await chat.run("await view.getByText('the host allows no downloads').waitFor()")
    assert (await chat.seen())["contexts"] == []


async def test_an_undeclared_request_is_blocked_and_the_view_goes_on(chat: Chat) -> None:
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0})
    target = f"{chat.vendors.base_url}/undeclared"
    blocked = await chat.run(
        "return await view.evaluate(async (url) => { const found = [];"
        " document.addEventListener('securitypolicyviolation', (event) => found.push(event.effectiveDirective));"
        " await fetch(url).catch(() => {}); new Image().src = url;"
        " while (found.length < 2) await new Promise((go) => setTimeout(go, 20)); return found; }, args.url)",
        url=target,
    )
    assert sorted(blocked) == ["connect-src", "img-src"]
    assert not [one for one in chat.vendors.sandbox.requests() if "undeclared" in one.path]
    chat.vendors.finish()
    await chat.status("Done")
    assert await chat.shown() == (384, 384)


async def test_a_view_that_is_taken_down_asks_no_more(chat: Chat) -> None:
    await chat.opened("outpaint", {**an_order(), "wait_seconds": 0})
    await chat.run("await page.waitForFunction(() => seen.calls.length)")
    await chat.run("await page.evaluate(() => teardown())")
    chat.vendors.finish()
    await chat.run("await new Promise((go) => setTimeout(go, 2500))")
    assert len((await chat.seen())["calls"]) == 1
