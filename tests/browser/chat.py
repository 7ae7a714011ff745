"""A chat with the view in it: Chromium, the reference host, the real server and the sandbox behind them."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..serving import picture
from ..transports.processes import HttpServer, Vendors
from .chromium import SCREENSHOTS, Chromium

ALL_OF_A_HOST: dict[str, Any] = {
    "openLinks": {},
    "downloadFile": {},
    "serverTools": {},
    "serverResources": {},
    "updateModelContext": {"text": {}},
}


@dataclass(slots=True)
class Chat:
    """A host's window, and the server and the vendors behind it."""

    chromium: Chromium
    server: HttpServer
    vendors: Vendors

    async def opened(self, tool: str, arguments: dict[str, Any], *, mode: str = "auto", **more: Any) -> Any:
        """Call a tool as the model does, and show its view; the call's result."""
        page = {name: more.pop(name) for name in ("width", "height", "script") if name in more}
        given = {"mode": mode, "tool": tool, "args": arguments, "context": {"theme": "light"}}
        given |= {"capabilities": ALL_OF_A_HOST, **more}
        await self.chromium.run(
            "await helpers.fresh(args.address, args.width, args.height, args.script)",
            address=self.server.paths["/mcp"],
            **page,
        )
        return await self.chromium.run("return await page.evaluate((given) => open_view(given), args)", **given)

    async def run(self, code: str, **args: Any) -> Any:
        return await self.chromium.run(code, **args)

    async def status(self, words: str) -> None:
        await self.run("await view.locator('#status').filter({ hasText: args.words }).waitFor()", words=words)

    async def titled(self, words: str) -> None:
        await self.run("await view.locator('#title').filter({ hasText: args.words }).waitFor()", words=words)

    async def shown(self) -> tuple[int, int]:
        """The size of the image that is shown, once it is."""
        found = await self.run(
            "await view.waitForFunction(() => document.getElementById('after').naturalWidth > 0);"
            "return await view.evaluate(() => { const it = document.getElementById('after');"
            " return [it.naturalWidth, it.naturalHeight]; })"
        )
        return found[0], found[1]

    async def press(self, name: str) -> None:
        await self.run("await view.getByRole('button', { name: args.name, exact: true }).click()", name=name)

    async def seen(self) -> dict[str, Any]:
        """What the view asked of the host."""
        found: dict[str, Any] = await self.run("return await page.evaluate(() => seen)")
        return found

    async def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        # The frame follows its content a moment later, and the content may grow meanwhile: both are looked at anew.
        await self.run(
            "const frame = page.locator('iframe'); const until = Date.now() + 20000; let wanted, given;"
            "const height = () => Math.ceil(document.documentElement.getBoundingClientRect().height);"
            "do { wanted = await view.evaluate(height);"
            " given = await frame.evaluate((it) => it.clientHeight);"
            " if (Date.now() > until) throw new Error(`the frame is ${given} high, its content ${wanted}`);"
            "} while (given !== wanted); await frame.screenshot({ path: args.path })",
            path=str(SCREENSHOTS / name),
        )

    async def is_sound(self) -> None:
        """Nothing left the page, no script failed, and nothing serious stands in the way of anybody who uses it."""
        assert await self.run("return helpers.asked") == []
        found = await self.run(
            "await view.addScriptTag({ path: helpers.axe });"
            "return (await view.evaluate(() => axe.run())).violations"
            ".filter((one) => ['serious', 'critical'].includes(one.impact))"
            ".map((one) => `${one.id}: ${one.nodes.map((node) => node.html + node.failureSummary)}`)"
        )
        assert found == []


def own_image(folder: Path, **arguments: Any) -> dict[str, Any]:
    """An order of an image of 240x160 pixels, drawn on the server's machine."""
    data = base64.b64encode(picture(folder, width=240, height=160).read_bytes()).decode()
    return {"image": f"data:image/png;base64,{data}", "provider": "local", "zoom": 1.5, "wait_seconds": 20, **arguments}
