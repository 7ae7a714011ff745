"""What the scripted model of every driver does. It needs nothing but Python.

The model orders, follows the task to its end as it is advised and then asks for something that is refused, and it
knows only what the framework hands to a model. `run` reads what to do from stdin, as JSON, and writes what was seen to
stdout, as its last line.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

TASK_ID = re.compile(r"\bop-[\w-]+")
ADVICE = re.compile(r"Not finished\. Call get_task with task_id=[\w-]+(?: and wait_seconds=([\d.]+))?")
IMAGE_URL = re.compile(r"https?://[^\s\"'\\<>)\]]+")
CODE = re.compile(r"\[([a-z_]+)\]")


@dataclass(frozen=True)
class Server:
    """How the server is started (stdio)."""

    command: str
    args: list[str]
    env: dict[str, str]


Script = Generator[tuple[str, dict[str, Any]], str, None]
"""Yields the next call of a tool, and is sent the text that the model reads of the answer."""

Drive = Callable[[Server, Script, Callable[[list[str]], None]], Awaitable[None]]
"""Lets a framework's agent follow the script; its last argument takes the names of the tools that the model sees."""


def conversation(order: dict[str, Any], refused: dict[str, Any], seen: dict[str, Any]) -> Script:
    began = time.monotonic()
    answer = yield "outpaint", order
    seen["first_answer"] = answer
    seen["seconds_to_first_answer"] = time.monotonic() - began
    named = TASK_ID.search(answer)
    if named is None:
        return
    seen["task_id"] = named[0]
    while advised := ADVICE.search(answer):
        wait = {"wait_seconds": float(advised[1])} if advised[1] else {}
        answer = yield "get_task", {"task_id": named[0], **wait}
    seen["last_answer"] = answer
    seen["urls"] = sorted(set(IMAGE_URL.findall(answer)))
    answer = yield "outpaint", refused
    code = CODE.search(answer)
    seen["refusal"] = code[1] if code else answer


def next_call(script: Script, answer: str | None) -> tuple[str, dict[str, Any]] | None:
    """The call that the model makes after this answer to its last one (None: it has made none), if it makes another."""
    try:
        return next(script) if answer is None else script.send(answer)
    except StopIteration:
        return None


def text_of(answer: Any) -> str:
    """What a model reads of an answer that is no text: the JSON of it, with its line ends as they are."""
    return answer if isinstance(answer, str) else json.dumps(answer, default=str).replace("\\n", "\n")


def run(drive: Drive) -> None:
    asked = json.load(sys.stdin)
    seen: dict[str, Any] = {}
    script = conversation(asked["order"], asked["refused"], seen)

    async def bounded() -> None:
        await asyncio.wait_for(drive(Server(**asked["server"]), script, lambda tools: seen.update(tools=tools)), 90)

    try:
        asyncio.run(bounded())
    finally:
        print("\n" + json.dumps(seen))
