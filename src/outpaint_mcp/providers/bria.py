"""Bria: expand image, version 2. https://docs.bria.ai

Your own image is placed on a canvas and what is around it painted. Facts without a page are from the vendor's own SDK
(bria-client 0.3.1) and its published skills (2026).
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar

import outpaint_mcp.providers as api

# "At most 5000x5000 in area". Bria scales the image to the size that it is told.
CANVAS = api.CanvasLimits(max_pixels=25_000_000, scales=True)
SWITCHES = (
    "preserve_alpha",
    "prompt_content_moderation",
    "visual_input_content_moderation",
    "visual_output_content_moderation",
)
SIGNING = b"bria-webhook-signing-v1"


def _check_options(options: Mapping[str, Any]) -> None:
    api.check_bria_options(options)
    for name in SWITCHES:
        # What Bria says of a wrong one speaks of moderation, as its refusals of content do.
        if not isinstance(options.get(name, True), bool):
            raise api.InvalidRequestError(
                f"{name} in provider_options is true or false, and {str(options[name])[:60]!r} is neither.",
                f"Give {name} as true or false, or leave it out.",
            )


class _Result(api.Answer):
    image_url: api.Text = ""


class _Request(api.Answer):
    request_id: str = ""
    status: api.Text = ""
    result: _Result | None = None
    error: Any = None
    warning: Any = None


class Bria(api.HttpProvider):
    name = "bria"
    title = "Bria"
    base_url = "https://engine.prod.bria-api.com/v2"
    key_env = "BRIA_API_TOKEN"
    auth_header = ("api_token", "{key}")
    fetch_path = "/status/{id}"
    docs_url = "https://docs.bria.ai"
    note = "Extends any image; without a prompt it writes one itself."
    price = "not published; resellers take $0.02 to $0.04 (November 2026)"
    image_lifetime = "3 days"
    sources = (api.SourceForm.OWN_IMAGE,)
    operations: ClassVar = {
        api.SourceKind.IMAGE: api.Operation(
            "/image/edit/expand",
            source=api.Argument(wire="image", encode=api.bare_base64),
            arguments={
                api.Feature.ASPECT_RATIO: api.Argument("any"),
                api.Feature.SIDES: api.Argument("any"),
                api.Feature.PROMPT: api.Argument("any, in English", "prompt"),
                api.Feature.WEBHOOK_URL: api.Argument("http(s); signed with the API token", "webhook_url"),
                api.Feature.PROVIDER_OPTIONS: api.Argument(
                    "merged into the body: negative_prompt, seed, preserve_alpha (default true), "
                    "prompt_content_moderation, visual_input_content_moderation, visual_output_content_moderation",
                    check=_check_options,
                ),
            },
            # Otherwise the connection is kept open until the image is there.
            constants={"sync": False},
            frame=api.bria_frame(),
            canvas=CANVAS,
            takes_url=True,
        )
    }
    # On the free plan ten requests a minute are allowed for each endpoint, polls included.
    first_poll = 5.0
    poll_interval = 7.0
    usual_seconds = 20.0
    statuses: ClassVar = api.status_words(
        # Who asks by Bria's SDK goes on asking after "unknown".
        running="in_progress unknown",
        succeeded="completed",
        failed="error failed",
    )

    def normalised_options(self, options: Mapping[str, Any], arguments: api.ProviderArguments) -> dict[str, Any]:
        # What Bria does without it is not certain.
        return {"preserve_alpha": True, **options}

    def parse_submit(self, body: Any) -> api.TaskUpdate:
        answer = self.read_as(_Request, body)
        # The answer only says that the job was taken, unless it names the image already.
        return self._update(answer, "in_progress" if answer.result is None else "completed")

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        answer = self.read_as(_Request, body)
        if not answer.status:
            raise self.unexpected("it names no status")
        return self._update(answer, answer.status)

    def _update(self, answer: _Request, word: str) -> api.TaskUpdate:
        told = answer.warning
        return self.update(
            word,
            remote_id=answer.request_id or None,
            urls=((answer.result or _Result()).image_url,),
            is_grid=False,
            failure=self.failure(api.find_message({"error": answer.error}), api.find_code({"error": answer.error})),
            notes=(f"Bria warns: {told.strip()[:200]!r}",) if isinstance(told, str) and told.strip() else (),
        )

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        named, sent_at, signatures = (
            api.header(headers, f"bria-webhook-{name}") or "" for name in ("id", "timestamp", "signature")
        )
        signing_key = hmac.new((key or "").encode(), SIGNING, hashlib.sha256).digest()
        signed = hmac.new(signing_key, f"{named}.{sent_at}.".encode() + body, hashlib.sha256).digest()
        expected = b"v1=" + base64.b64encode(signed)
        given = [one.strip().encode() for one in signatures.split(",")]
        if not key or not any([hmac.compare_digest(one, expected) for one in given]):
            raise api.InvalidRequestError("The callback's signature is not Bria's.")
        return api.webhook_id(self.title, named)
