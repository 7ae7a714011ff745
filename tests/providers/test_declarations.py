"""What follows from a declaration by itself: the body, the reserved fields, the words."""

import pytest

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import Parent
from outpaint_mcp.domain.request import AspectRatio, Feature, SourceKind, Webhook
from outpaint_mcp.providers.declarations import Argument, FrameFields, Operation, Zoom
from outpaint_mcp.providers.upload_paint import scaled

from .through import UUID, image_order, input_image, order

NESTED = Operation(
    "/extend",
    source=Argument(wire="what.image"),
    zoom=Zoom(wire="how.zoom", encode=str),
    arguments={Feature.PROMPT: Argument("any", "how.words"), Feature.ASPECT_RATIO: Argument("any", "ratio", str)},
    constants={"how": {"kind": "outward"}, "model": "one"},
)


def test_fields_within_fields_are_written_into_one_object() -> None:
    wide = image_order(zoom=1.5, aspect_ratio=AspectRatio(16, 9), prompt="a lake")
    assert NESTED.body(wide, "https://example.com/up") == {
        "how": {"kind": "outward", "zoom": "1.5", "words": "a lake"},
        "model": "one",
        "what": {"image": "https://example.com/up"},
        "ratio": "16:9",
    }


def test_a_constant_that_is_an_object_is_not_shared_between_requests() -> None:
    NESTED.body(image_order(prompt="a lake"))
    assert NESTED.body(image_order(zoom=2.0))["how"] == {"kind": "outward", "zoom": "2.0"}
    assert NESTED.constants["how"] == {"kind": "outward"}


def test_what_is_not_given_is_not_sent() -> None:
    own = image_order(input_image(url=None))
    assert NESTED.body(own) == {"how": {"kind": "outward", "zoom": "1.5"}, "model": "one"}
    assert "zoom" not in NESTED.body(order(zoom=None))["how"]


def test_a_parent_is_named_by_its_id_unless_the_declaration_says_otherwise() -> None:
    parent = order(source=Parent(UUID, "reference"))
    plain = Operation(source=Argument(wire="task"))
    other = Operation(source=Argument(wire="task", encode=lambda source: source.reference))
    assert (plain.body(parent), other.body(parent)) == ({"task": UUID}, {"task": "reference"})


def test_a_webhook_without_secret_and_events_writes_only_its_url() -> None:
    operation = Operation(
        arguments={
            Feature.WEBHOOK_URL: Argument("any", "hook.url"),
            Feature.WEBHOOK_SECRET: Argument("any", "hook.secret"),
            Feature.WEBHOOK_EVENTS: Argument("any", "hook.events"),
        }
    )
    assert operation.body(order()) == {}
    hook = Webhook("https://example.com/h")
    assert operation.body(order(webhook=hook)) == {"hook": {"url": "https://example.com/h"}}
    full = Webhook("https://example.com/h", "hush", ("completed",))
    assert operation.body(order(webhook=full))["hook"]["events"] == ["completed"]


def test_the_fields_that_can_be_written_are_told_with_the_arguments_that_they_stand_for() -> None:
    assert NESTED.written(SourceKind.IMAGE) == {
        "how": ["zoom", "prompt"],
        "model": [],
        "what": ["image"],
        "ratio": ["aspect_ratio"],
    }
    assert NESTED.written(SourceKind.TASK)["what"] == ["task_id"]
    framed = Operation(
        arguments={Feature.ASPECT_RATIO: Argument("any")},
        frame=FrameFields(lambda frame: {"canvas.width": 1, "at": 2}, ("canvas.width", "at")),
    )
    assert framed.written(SourceKind.IMAGE) == {"canvas": ["zoom", "aspect_ratio"], "at": ["zoom", "aspect_ratio"]}


@pytest.mark.parametrize(
    ("zoom", "words"),
    [
        (Zoom(), "1 to 2"),
        (Zoom(1.1, 1.75), "1.1 to 1.75"),
        (Zoom(values=(1.5,)), "1.5"),
        (Zoom(values=(1.5, 2.0)), "1.5 or 2"),
        (Zoom(values=(1.0, 1.5, 2.0)), "1, 1.5 or 2"),
    ],
)
def test_the_zooms_are_told_in_words(zoom: Zoom, words: str) -> None:
    assert str(zoom) == words
    assert list(Operation(zoom=zoom, arguments={Feature.PROMPT: Argument("any")}).limits().items()) == [
        (Feature.ZOOM, words),
        (Feature.PROMPT, "any"),
    ]


def test_a_frame_that_is_not_centred_stays_beside_the_middle_when_it_is_scaled() -> None:
    left = Frame(150, 100, 50, 0, 100, 100)
    assert scaled(left) == Frame(750, 500, 250, 0, 500, 500)
    assert scaled(Frame(150, 100, 0, 0, 100, 100)) == Frame(750, 500, 0, 0, 500, 500)
    assert scaled(Frame(151, 100, 25, 0, 100, 100)).x == (755 - 500) // 2, "half a pixel is not scaled"
