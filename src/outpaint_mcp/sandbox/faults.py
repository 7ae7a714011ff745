"""The faults: what the sandbox can be told to do wrong, for which vendor and requests, and how often.

A fault is set for a vendor and a kind of request, and used up by the requests that it meets. Knows nothing of HTTP:
`fault_injection` carries the faults out.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from outpaint_mcp.sandbox.vendors import VENDORS
from outpaint_mcp.sandbox.vendors.base import Action, Vendor

FaultKind = Literal[
    "status",
    "drop",
    "slow",
    "truncated_json",
    "html",
    "challenge",
    "unknown_status",
    "capitalised",
    "bare_string",
    "image_urls",
    "no_zoom",
    "job_shaped_refusal",
    "refused_in_200",
    "fail",
    "gone",
    "restart",
]


def _vendor_name(name: str) -> str:
    if name not in VENDORS:
        raise ValueError(f"must be one of {', '.join(VENDORS)}")
    return name


# The faults that only some vendors are known to have: those whose class overrides the method for it.
_VENDORS_OF: dict[FaultKind, tuple[str, ...]] = {
    "job_shaped_refusal": tuple(
        sorted(
            name for name, vendor in VENDORS.items() if vendor.task_shaped_rejection is not Vendor.task_shaped_rejection
        )
    ),
    "refused_in_200": tuple(
        sorted(name for name, vendor in VENDORS.items() if vendor.rejection_in_200 is not Vendor.rejection_in_200)
    ),
    "restart": tuple(sorted(name for name, vendor in VENDORS.items() if vendor.restart is not Vendor.restart)),
}
_ORDERS: frozenset[Action] = frozenset({"submit", "upscale", "imagine"})

FAULT_DESCRIPTIONS: dict[FaultKind, str] = {
    "status": "answers HTTP `status` in the vendor's error shape, with `retry_after` seconds if given; "
    "`accepted`: after accepting the order",
    "drop": "closes the connection without an answer; `accepted`: after accepting the order",
    "slow": "waits `seconds` before the request is looked at; `accepted`: after accepting the order",
    "truncated_json": "answers the first half of the true answer",
    "html": "answers an HTML page with HTTP `status`; `accepted`: after accepting the order",
    "challenge": "answers Cloudflare's challenge to browsers with HTTP `status` (403); nothing reaches the vendor",
    "unknown_status": "puts `word` in place of the task's status",
    "capitalised": "capitalises the task's status",
    "bare_string": "puts a single URL in place of a list of URLs (vtrix: a string in place of the error)",
    "image_urls": "puts `word` in place of each image's URL, with {url} for the true one and {rest} for that without "
    "its scheme",
    "no_zoom": "lists no zoom among what is possible with the images (legnext, apimart, piapi)",
    "job_shaped_refusal": "rejects with HTTP `status`, `code` (the status) and `message` in the shape of a task "
    f"({', '.join(_VENDORS_OF['job_shaped_refusal'])})",
    "refused_in_200": "rejects with HTTP 200, in the shape that the vendor uses for that "
    f"({', '.join(_VENDORS_OF['refused_in_200'])})",
    "fail": "accepts the order, whose task then fails with the vendor's `code` and `message`",
    "gone": "answers 404, as for an image that has expired",
    "restart": f"closes the connection and forgets every task ({', '.join(_VENDORS_OF['restart'])})",
}


class Fault(BaseModel):
    """One misbehaviour. `times` None goes on until the faults are cleared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vendor: Annotated[str, AfterValidator(_vendor_name)] | None = None
    """None: any vendor."""
    on: Action
    fault: FaultKind
    times: int | None = Field(default=1, ge=1)
    accepted: bool = False
    status: int | None = Field(default=None, ge=200, le=599)
    retry_after: float | None = Field(default=None, ge=0)
    seconds: float = Field(default=1.0, ge=0, le=3600)
    word: str = "MEDITATING"
    code: int | str | None = None
    message: str = "The sandbox was told to reject this"

    @model_validator(mode="after")
    def _fits_the_request(self) -> Self:
        if self.fault == "fail" and self.on not in _ORDERS:
            raise ValueError("'fail' goes with submit, upscale or imagine: it is the task that fails")
        vendors = _VENDORS_OF.get(self.fault)
        if vendors is not None and self.vendor not in vendors:
            raise ValueError(f"'{self.fault}' goes with {' or '.join(vendors)}")
        return self


class Faults:
    """The faults that are set, in the order in which they came."""

    def __init__(self) -> None:
        self._set: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault) -> None:
        """Sets a fault."""
        self._set.append((fault, fault.times))

    def clear(self) -> None:
        """Removes all faults, used up or not."""
        self._set.clear()

    def list(self) -> tuple[tuple[Fault, int | None], ...]:
        """Each fault with how often it is still to happen (None: always)."""
        return tuple(self._set)

    def take(self, vendor: str, on: Action) -> Fault | None:
        """The first fault that a request of this kind to this vendor meets, used up once; None where it meets none."""
        for index, (fault, left) in enumerate(self._set):
            if fault.on != on or fault.vendor not in (None, vendor):
                continue
            if left == 1:
                del self._set[index]
            elif left is not None:
                self._set[index] = (fault, left - 1)
            return fault
        return None
