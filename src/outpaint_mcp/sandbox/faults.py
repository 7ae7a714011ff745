"""Misbehaviour on request: what the sandbox can be told to do wrong, to whom, when and how often.

A fault is planted for a vendor and a kind of request, and used up by the requests that meet it. Knows nothing of HTTP:
the gate carries them out.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

VendorName = Literal["piapi", "vtrix", "apiframe", "apimart", "legnext"]
On = Literal["submit", "upscale", "imagine", "upload", "poll", "image", "cancel", "balance"]
FaultKind = Literal[
    "status",
    "drop",
    "slow",
    "truncated_json",
    "html",
    "unknown_status",
    "capitalised",
    "bare_string",
    "job_shaped_refusal",
    "refused_in_200",
    "fail",
    "gone",
]

WHAT_FAULTS_DO: dict[FaultKind, str] = {
    "status": "answers HTTP `status` in the vendor's error shape, with `retry_after` seconds if given; "
    "`accepted`: after taking the order",
    "drop": "closes the connection without a word; `accepted`: after taking the order",
    "slow": "waits `seconds` before the request is looked at; `accepted`: after taking the order",
    "truncated_json": "answers the first half of the true answer",
    "html": "answers an HTML page with HTTP `status`; `accepted`: after taking the order",
    "unknown_status": "puts `word` where the task's status stands",
    "capitalised": "capitalises the task's status",
    "bare_string": "puts a single URL where a list of URLs stands (vtrix: a string where the error stands)",
    "job_shaped_refusal": "refuses with HTTP `status` and `message` in the shape of a task (legnext, piapi)",
    "refused_in_200": "refuses with HTTP 200 (piapi: another `code`; vtrix: no `id`)",
    "fail": "takes the order, whose task then fails with the vendor's `code` and `message`",
    "gone": "answers 404, as an image does whose time is over",
}
_NEEDS_ORDER = frozenset({"submit", "upscale", "imagine"})


class Fault(BaseModel):
    """One misbehaviour. `times` None goes on until the faults are cleared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vendor: VendorName | None = None
    """None: any vendor."""
    on: On
    fault: FaultKind
    times: int | None = Field(default=1, ge=1)
    accepted: bool = False
    status: int | None = Field(default=None, ge=200, le=599)
    retry_after: float | None = Field(default=None, ge=0)
    seconds: float = Field(default=1.0, ge=0, le=3600)
    word: str = "MEDITATING"
    code: int | str | None = None
    message: str = "The sandbox was told to refuse this"

    @model_validator(mode="after")
    def _fits_the_request(self) -> Self:
        if self.fault == "fail" and self.on not in _NEEDS_ORDER:
            raise ValueError("'fail' goes with submit, upscale or imagine: it is the task that fails")
        if self.fault == "job_shaped_refusal" and self.vendor not in ("legnext", "piapi"):
            raise ValueError("'job_shaped_refusal' goes with legnext or piapi")
        if self.fault == "refused_in_200" and self.vendor not in ("piapi", "vtrix"):
            raise ValueError("'refused_in_200' goes with piapi or vtrix")
        return self


class Faults:
    """The faults that are planted, in the order in which they came."""

    def __init__(self) -> None:
        self._planted: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault) -> None:
        self._planted.append((fault, fault.times))

    def clear(self) -> None:
        self._planted.clear()

    def list(self) -> tuple[tuple[Fault, int | None], ...]:
        """Each fault with how often it is still to happen (None: always)."""
        return tuple(self._planted)

    def take(self, vendor: str, on: str) -> Fault | None:
        """The first fault that this request meets, used up once."""
        for place, (fault, left) in enumerate(self._planted):
            if fault.on != on or fault.vendor not in (None, vendor):
                continue
            if left == 1:
                del self._planted[place]
            elif left is not None:
                self._planted[place] = (fault, left - 1)
            return fault
        return None
