"""The names that a provider's file is written with, in one place; `outpaint_mcp.providers` hands them out."""

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    ConfigurationError,
    ContentRejectedError,
    InsufficientCreditsError,
    InvalidImageError,
    InvalidRequestError,
    NotReadyError,
    OrderUnconfirmedError,
    OutpaintError,
    ProviderUnavailableError,
    RateLimitedError,
    UnexpectedResponseError,
    UnknownTaskError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName
from outpaint_mcp.domain.provider_info import Original, SourceForm
from outpaint_mcp.domain.request import AspectRatio, Feature, OutpaintRequest, ProviderArguments, SourceKind, Webhook
from outpaint_mcp.domain.task import Cost, Failure, ResultImage, Status, TaskUpdate
from outpaint_mcp.domain.working_canvas import WorkingCanvas
from outpaint_mcp.providers.account import Balance
from outpaint_mcp.providers.answer_reader import status_words
from outpaint_mcp.providers.answers import (
    Answer,
    Code,
    Id,
    Job,
    Moment,
    Number,
    Text,
    Urls,
    header,
    usd_cost,
    webhook_id,
    webhook_json,
)
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.bria_canvas import bria_frame, check_bria_options
from outpaint_mcp.providers.calls import ApiCall, Endpoint, UploadFile
from outpaint_mcp.providers.canvas_limits import CanvasLimits
from outpaint_mcp.providers.canvases import Canvases, DrawnCanvas
from outpaint_mcp.providers.declarations import Argument, FrameFields, Operation, Zoom, bare_base64
from outpaint_mcp.providers.flux_fill import FLUX_FILL_RATIO, FLUX_FILL_ZOOM, flux_fill_frame
from outpaint_mcp.providers.held_orders import Held, HeldOrders, named
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.midjourney import MEASURED_BUTTON, NO_V8_ZOOM
from outpaint_mcp.providers.midjourney import options_argument as midjourney_options
from outpaint_mcp.providers.midjourney import prompt_argument as midjourney_prompt
from outpaint_mcp.providers.registry import provider_classes
from outpaint_mcp.providers.rejections import ERRORS_BY_STATUS, find_code, find_message, rejection
from outpaint_mcp.providers.self_hosted import EngineOptions, Inspection, SelfHosted
from outpaint_mcp.providers.synchronous import KeepImage, Painted, SynchronousProvider

__all__ = [
    "ERRORS_BY_STATUS",
    "FLUX_FILL_RATIO",
    "FLUX_FILL_ZOOM",
    "MEASURED_BUTTON",
    "NO_V8_ZOOM",
    "Answer",
    "ApiCall",
    "Argument",
    "AspectRatio",
    "AuthenticationError",
    "Balance",
    "CanvasLimits",
    "Canvases",
    "Code",
    "ConfigurationError",
    "ContentRejectedError",
    "Cost",
    "DrawnCanvas",
    "Endpoint",
    "EngineOptions",
    "Failure",
    "Feature",
    "Frame",
    "FrameFields",
    "Held",
    "HeldOrders",
    "HttpClient",
    "HttpProvider",
    "Id",
    "InputImage",
    "Inspection",
    "InsufficientCreditsError",
    "InvalidImageError",
    "InvalidRequestError",
    "Job",
    "KeepImage",
    "Moment",
    "NotReadyError",
    "Number",
    "Operation",
    "Order",
    "OrderUnconfirmedError",
    "Original",
    "OutpaintError",
    "OutpaintRequest",
    "Painted",
    "Parent",
    "Provider",
    "ProviderArguments",
    "ProviderUnavailableError",
    "RateLimitedError",
    "ResultImage",
    "SelfHosted",
    "SourceForm",
    "SourceKind",
    "Status",
    "StepName",
    "SynchronousProvider",
    "TaskUpdate",
    "Text",
    "UnexpectedResponseError",
    "UnknownTaskError",
    "UnsupportedFeatureError",
    "UploadFile",
    "Urls",
    "Webhook",
    "WorkingCanvas",
    "Zoom",
    "bare_base64",
    "bria_frame",
    "check_bria_options",
    "find_code",
    "find_message",
    "flux_fill_frame",
    "header",
    "midjourney_options",
    "midjourney_prompt",
    "named",
    "provider_classes",
    "rejection",
    "status_words",
    "usd_cost",
    "webhook_id",
    "webhook_json",
]
