"""An order's identity and its stored form: no field can be forgotten in either."""

import dataclasses
import json
from dataclasses import replace
from typing import Any

import pytest

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName
from outpaint_mcp.domain.request import AspectRatio, Webhook

PARENT = Parent("remote-1", "reference", 2, True)
IMAGE = InputImage("0" * 64, "image/png", 800, 600, "/here/a.png", "https://example.com/a.png?sig=hush", 4321)
HOOK = Webhook("https://example.com/h?token=hush", "hush", ("completed",))
ORDER = Order(
    provider="legnext",
    source=PARENT,
    zoom=1.5,
    aspect_ratio=AspectRatio(16, 9),
    prompt="a lake",
    speed="fast",
    options={"seed": 7, "metadata": "m"},
    steps=(StepName.UPSCALE, StepName.OUTPAINT),
    task_id="op-1",
    image_index=2,
    wants_webhook=True,
    webhook=HOOK,
    key="op-1-0",
)
OTHER: dict[str, Any] = {
    "provider": "vtrix",
    "source": replace(PARENT, index=3),
    "frame": Frame(10, 10, 1, 1, 8, 8),
    "zoom": 2.0,
    "aspect_ratio": None,
    "sides": ("left",),
    "prompt": "a hill",
    "speed": None,
    "options": {"seed": 8},
    "steps": (StepName.OUTPAINT,),
    "task_id": "op-2",
    "image": "a.png",
    "image_index": None,
    "wants_webhook": False,
    "webhook": None,
    "key": "op-1-1",
    "client": "token:ann",
    "step": StepName.UPSCALE,
}
"""Another value for every field of an order."""


@dataclasses.dataclass(frozen=True, slots=True)
class LaterOrder(Order):
    """An order with one field more, as a later version may have; nothing else tells of the field."""

    seamless: bool = False


def test_every_field_has_another_value_to_try() -> None:
    assert set(OTHER) == {field.name for field in dataclasses.fields(Order)}, "add the new field to OTHER"


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Order)])
def test_every_field_tells_orders_apart_but_the_named_ones(name: str) -> None:
    other = replace(ORDER, **{name: OTHER[name]})
    assert (other.identity("local") == ORDER.identity("local")) is (name in Order.NOT_IDENTITY)


def test_a_field_that_is_added_later_is_part_of_the_identity_and_stored_and_an_older_row_reads_its_default() -> None:
    plain, seamless = LaterOrder("legnext", PARENT), LaterOrder("legnext", PARENT, seamless=True)
    assert plain.identity("local") != seamless.identity("local")
    assert LaterOrder.from_stored(seamless.to_stored(), provider="legnext") == seamless
    older = Order("legnext", PARENT).to_stored()
    assert "seamless" not in older
    assert LaterOrder.from_stored(older, provider="legnext") == plain
    assert plain.identity("local") == Order("legnext", PARENT).identity("local"), "no order is placed again over it"


def test_what_tells_no_orders_apart_is_this_named_list() -> None:
    of_one_request = {"webhook", "key", "client", "step"}
    assert of_one_request | {"task_id", "image", "image_index", "steps", "speed", "wants_webhook"} == (
        Order.NOT_IDENTITY
    ), "a field that changes the image must tell orders apart"


def test_the_client_tells_orders_apart() -> None:
    assert ORDER.identity("one") != ORDER.identity("two")


def test_the_same_frame_written_in_two_ways_is_one_order() -> None:
    frame = Frame.around(800, 600, zoom=1.5)
    one = Order("local", IMAGE, frame, zoom=1.5)
    two = Order("local", IMAGE, frame, zoom=1.0, aspect_ratio=AspectRatio(4, 3))
    assert one.identity("local") == two.identity("local")
    assert replace(one, frame=Frame.around(800, 600, zoom=2)).identity("local") != one.identity("local")


def test_an_image_is_known_by_its_bytes_and_a_task_by_its_id_and_index() -> None:
    one = Order("local", IMAGE, Frame.around(800, 600, zoom=2))
    same = replace(IMAGE, path="/there/b.png", url=None, size=0)
    assert replace(one, source=same).identity("x") == one.identity("x")
    assert replace(one, source=replace(IMAGE, sha256="1" * 64)).identity("x") != one.identity("x")
    known = replace(ORDER, source=replace(PARENT, reference=None, is_grid=None))
    assert known.identity("x") == ORDER.identity("x")


def test_white_space_tells_no_prompts_apart() -> None:
    spaced = replace(ORDER, prompt="\u3000a\u00a0\n lake\t")
    assert spaced.identity("x") == ORDER.identity("x")
    assert replace(ORDER, prompt="al ake").identity("x") != ORDER.identity("x")


def test_metadata_is_the_one_option_that_tells_no_orders_apart() -> None:
    assert replace(ORDER, options={"seed": 7, "metadata": "n"}).identity("x") == ORDER.identity("x")
    assert replace(ORDER, options={"seed": 8, "metadata": "m"}).identity("x") != ORDER.identity("x")


@pytest.mark.parametrize("order", [ORDER, replace(ORDER, source=IMAGE, frame=Frame.around(800, 600, zoom=1.5))])
def test_what_is_stored_is_read_again_without_what_is_secret_or_of_this_machine(order: Order) -> None:
    text = json.dumps(order.to_stored())
    assert "hush" not in text
    assert "/here" not in text
    found = Order.from_stored(json.loads(text), provider="ignored")
    bare = replace(IMAGE, path="", url=None) if isinstance(order.source, InputImage) else order.source
    assert found == replace(order, source=bare, webhook=None, key="", step=StepName.OUTPAINT)
    assert found.identity("x") == order.identity("x")


def test_what_is_shown_stands_under_the_arguments_names() -> None:
    assert ORDER.shown() == {
        "task_id": "op-1",
        "provider": "legnext",
        "image_index": 2,
        "zoom": 1.5,
        "aspect_ratio": "16:9",
        "prompt": "a lake",
        "speed": "fast",
        "webhook_url": "https://example.com/h",
        "webhook_events": ["completed"],
        "provider_options": {"seed": 7, "metadata": "m"},
    }
