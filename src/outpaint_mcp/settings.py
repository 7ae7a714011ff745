"""The settings, read from environment variables; no other module reads the environment."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from outpaint_mcp.domain.bucket_url import checked_bucket_url
from outpaint_mcp.domain.errors import ConfigurationError


def _data_dir() -> Path:
    from platformdirs import user_data_path

    return user_data_path("outpaint-mcp", appauthor=False)


class Settings(BaseSettings):
    """Every setting of the program. docs/settings.md lists them with their environment variables."""

    model_config = SettingsConfigDict(env_prefix="OUTPAINT_", extra="ignore", frozen=True, env_ignore_empty=True)

    data_dir: Path = Field(
        default_factory=_data_dir,
        description="The folder of the store and the images; by default the platform's folder for a user's data.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="The PostgreSQL database of the store, as a URI of libpq's, for servers on several machines; by "
        "default the store is a file in the data folder. Needs the extra `platform` and `OUTPAINT_SEAL_KEY`.",
        examples=["postgresql://outpaint@db.example.com/outpaint"],
    )
    seal_key: SecretStr | None = Field(
        default=None,
        description="All servers' key (`outpaint-mcp db key`), under which a database holds a client's webhook and "
        "an image's whole URL, and by which images' URLs are signed; after a comma, older ones that are still read.",
    )
    images_url: Annotated[str | None, AfterValidator(checked_bucket_url)] = Field(
        default=None,
        description="The bucket (S3 or like it) that holds all images, for servers on several machines; by default the "
        "data folder does. Needs the extra `platform` and `AWS_*` variables, or the machine's role.",
        examples=["s3://bucket/prefix"],
    )
    workers: bool = Field(
        default=False,
        description="Whether `outpaint-mcp worker` polls, draws, copies and cleans up for the servers on the database; "
        "this server then accepts, records, sends and answers. Needs `OUTPAINT_IMAGES_URL`.",
    )
    providers: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None,
        description="The providers that `auto` tries, in this order, separated by commas. Setting it also lets `auto` "
        "send a file or a `data:` image to a vendor.",
    )
    resource_links: bool | Literal["auto"] = Field(
        default="auto",
        description="Whether a result holds a resource link per image: `true`, `false`, or `auto` for the clients that "
        "are known to show or save what is linked; many others discard a result with a link.",
    )
    preview: bool | Literal["auto"] = Field(
        default="auto",
        description="Whether a result holds one small inline image: `true`, `false`, or `auto` for the clients that "
        "are known to show it to their user and that render no view of their own.",
    )
    max_usd_per_day: float | None = Field(
        default=None, ge=0, description="The daily limit of spending, in USD; days are UTC.", examples=["5"]
    )
    confirm_above_usd: float | None = Field(
        default=None,
        ge=0,
        description="An order that costs more than this, in USD, or whose price is not known is confirmed by the user "
        "first, where the client can ask; it is no limit, since some clients cannot ask or answer by themselves.",
        examples=["0.10"],
    )
    max_orders_per_day: int | None = Field(
        default=None, ge=0, description="The daily limit of orders; days are UTC.", examples=["20"]
    )
    task_timeout: float = Field(
        default=1800,
        gt=0,
        description="After how long a task that is not final becomes `unknown`: seconds, or `30min`, `2h`.",
        examples=["1800", "30min"],
    )
    file_roots: Annotated[tuple[Path, ...] | None, NoDecode] = Field(
        default=None,
        description="The folders that an `image` path may lie in, separated as in `PATH`; by default the home and data "
        "folders, and the working folder unless that is `/` or holds the home.",
    )
    keyring: bool = Field(
        default=False,
        description="Whether a provider's key that is no environment variable is looked up in the system's keyring, "
        "where `outpaint-mcp install CLIENT --keyring` puts it; needs the extra `keyring`.",
    )
    inpaint_model: Path | None = Field(
        default=None,
        description="The ONNX file of a model (MI-GAN's pipeline or LaMa) that paints in place of the local engine. "
        "Experimental; needs the extra `onnx`.",
    )
    allow_private_urls: bool = Field(
        default=False,
        description="Whether image URLs may lead to this machine or its network (never to link-local ones).",
    )
    poll_seconds: Annotated[tuple[float, float] | None, NoDecode] = Field(
        default=None,
        description="`first,interval`, in seconds: when tasks are polled, instead of at their provider's times. "
        "For tests.",
        examples=["1,2"],
    )
    adopt: bool | None = Field(
        default=None,
        description="Whether a task is imported when an unknown id of a provider's own is given; by default yes.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="WARNING", description="What is logged to stderr."
    )
    tokens_file: Path | None = Field(
        default=None,
        description="Over HTTP: the file of bearer tokens, a name and a SHA-256 per line (`outpaint-mcp token add`).",
    )
    oauth_issuer: str | None = Field(
        default=None, description="Over HTTP: the authorization server whose access tokens (JWT) are accepted."
    )
    oauth_audience: str | None = Field(
        default=None, description="What a token's `aud` must contain; by default this server's URL, ending in `/mcp`."
    )
    oauth_jwks_url: str | None = Field(
        default=None, description="The URL of the issuer's keys (its metadata's `jwks_uri`)."
    )
    oauth_scopes: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="The scopes that a token must have, separated by spaces."
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="Over HTTP: the URL that others reach this server at. Vendors then call back when a task "
        "is done, and images have URLs there.",
        examples=["https://outpaint.example.com"],
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Over HTTP: further `Host` headers that are accepted, separated by commas; `NAME:*` is any port.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Over HTTP: further `Origin` headers that are accepted, separated by commas."
    )
    max_requests_per_minute: int = Field(default=600, ge=1, description="Over HTTP: the rate limit of one client.")
    max_waits: int = Field(
        default=100,
        ge=1,
        description="Over HTTP: the most calls of one client that wait at the same time, and the most of its images "
        "that wait to be read, and to be drawn.",
    )
    max_sessions: int = Field(
        default=50,
        ge=1,
        description="Over HTTP: the most sessions of one client that are open at the same time (in the older protocol "
        "versions; the newest has none).",
    )
    max_request_mb: float = Field(
        default=16,
        gt=0,
        le=1e6,
        description="Over HTTP: the largest request; a `data:` image is a third larger than its file.",
    )
    keep_images_days: float = Field(default=30, gt=0, le=1e6, description="How long images are kept.")
    keep_tasks_days: float = Field(
        default=365,
        ge=0,
        le=1e6,
        description="How long final tasks are kept: at least 1 day, or 0 to keep all. Those that are open or `unknown` "
        "stay in any case.",
    )
    keep_images_gb: float = Field(
        default=5, gt=0, le=1e6, description="How much space all images may take; the oldest are deleted first."
    )

    @field_validator("providers", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = tuple(name.strip().lower() for name in value.split(",") if name.strip())
        # An empty list does not permit sending images to vendors.
        return None if value is not None and len(value) == 0 else value

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("oauth_scopes", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("file_roots", mode="before")
    @classmethod
    def _folders(cls, value: Any) -> Any:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("file_roots")
    @classmethod
    def _expanded(cls, value: tuple[Path, ...] | None) -> tuple[Path, ...] | None:
        return None if value is None else tuple(path.expanduser() for path in value)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("task_timeout", mode="before")
    @classmethod
    def _duration(cls, value: Any) -> Any:
        text = value.strip().lower() if isinstance(value, str) else ""
        for unit, seconds in (("min", 60), ("m", 60), ("h", 3600), ("s", 1)):
            if text.endswith(unit):
                try:
                    return float(text.removesuffix(unit)) * seconds
                except ValueError:
                    break
        return value

    @field_validator("database_url")
    @classmethod
    def _of_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("a URI that begins with postgresql://")
        return value

    @field_validator("keep_tasks_days")
    @classmethod
    def _a_day_or_all(cls, value: float) -> float:
        # Within a day, tasks count to the daily limits and answer for the same order made again.
        if 0 < value < 1:
            raise ValueError("0 to keep all, or at least 1")
        return value

    @field_validator("poll_seconds", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("poll_seconds")
    @classmethod
    def _bounded(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not (all(map(math.isfinite, value)) and value[0] >= 0 and value[1] >= 0.01):
            raise ValueError("two finite numbers: the first not negative, the interval at least 0.01")
        return value


def reveal(secret: SecretStr | None) -> str | None:
    """What a secret setting holds."""
    return None if secret is None else secret.get_secret_value()


class VendorSettings(BaseSettings):
    """The settings of one provider: ``<NAME>_API_KEY``, ``<NAME>_BASE_URL``, ``<NAME>_USD_PER_ORDER``,
    ``<NAME>_MAX_IN_FLIGHT``; of an engine that takes one, ``<NAME>_WORKFLOW``.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    api_key: SecretStr | None = None
    base_url: str | None = Field(
        default=None, pattern=r"^https?://[^\s/?#]+[^\s?#]*$", examples=["https://api.example.com"]
    )
    usd_per_order: float | None = Field(default=None, ge=0, examples=["0.05"])
    max_in_flight: int | None = Field(default=None, ge=1, examples=["4"])
    workflow: Path | None = None

    @field_validator("base_url")
    @classmethod
    def _has_host_and_port(cls, value: str | None) -> str | None:
        try:
            # Reading its port raises ValueError where that is none.
            usable = value is None or ((parts := urlsplit(value)).hostname and parts.port != 0)
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("a URL with a valid host and port")
        return value


def read_settings(**given: Any) -> Settings:
    """Read the process's environment.

    Args:
        given: settings from elsewhere, such as the command line; they take precedence over the environment.

    Raises:
        ConfigurationError: a value cannot be read; the message names the variable, never the value.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        raise _unreadable(Settings, "OUTPAINT_", error) from None


def read_vendor_settings(
    name: str, key_env: str | None = None, stored: Mapping[str, str] | None = None
) -> VendorSettings:
    """Read the settings of the provider `name` from the process's environment.

    Args:
        name: the provider's; the variables begin with it.
        key_env: the variable that holds the API key, where that is not ``<NAME>_API_KEY``.
        stored: keys from the system's keyring, by variable, for those that are not in the environment.

    Raises:
        ConfigurationError: a value cannot be read; the message names the variable, never the value.
    """
    prefix = name.upper().replace("-", "_") + "_"
    own = f"{prefix}API_KEY"
    variable = key_env or own
    given = {} if variable == own else {"api_key": os.environ.get(variable) or None}
    if stored and variable in stored and not os.environ.get(variable):
        given = {"api_key": stored[variable]}
    try:
        return VendorSettings(_env_prefix=prefix, **given)  # type: ignore[call-arg,arg-type]  # of BaseSettings
    except ValidationError as error:
        raise _unreadable(VendorSettings, prefix, error) from None


_CHILD_VARIABLES = frozenset(
    {"PATH", "HOME", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LANG", "LC_ALL", "LD_LIBRARY_PATH"}
)
_CHILD_PREFIXES = ("PYTHON", "OPENBLAS_", "OMP_", "MKL_", "COV_CORE_", "COVERAGE_")


def child_environment() -> dict[str, str]:
    """What of the process's environment a child gets that decodes or draws: what runs Python and its libraries.

    An allow-list: a plug-in's key can have any name.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _CHILD_VARIABLES or name.upper().startswith(_CHILD_PREFIXES)
    }


def plain_http_to_bucket() -> bool:
    """Whether the environment names an endpoint for a bucket that is reached without TLS."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return any(os.environ.get(name, "").lower().startswith("http://") for name in names)


def environment_names() -> tuple[str, ...]:
    """The names of the process's environment variables, without their values."""
    return tuple(os.environ)


def environment_folders() -> dict[str, str]:
    """Those of the variables that move other programs' settings folders which are set."""
    names = ("APPDATA", "LOCALAPPDATA", "XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "COPILOT_HOME")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _unreadable(model: type[BaseSettings], prefix: str, error: ValidationError) -> ConfigurationError:
    fields = model.model_json_schema()["properties"]
    problems = {}
    for problem in error.errors(include_url=False, include_input=False):
        name, own = str(problem["loc"][0]), problem.get("ctx", {}).get("error")
        default = fields[name].get("default")
        examples = fields[name].get("examples") or [str(default)] * (type(default) in (int, float))
        such_as = f", such as {' or '.join(examples)}" if examples else ""
        problems[name] = f"{prefix}{name.upper()} must be {own or _wanted(fields[name])}{such_as}."
    return ConfigurationError(" ".join(problems.values()), "Correct the environment and start again.")


def _wanted(field: Mapping[str, Any]) -> str:
    """What a setting must be, by the JSON schema of its field."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    words = []
    for kind in kinds:
        match kind:
            case {"type": "boolean"}:
                words += ["true", "false"]
            case {"const": choice}:
                words.append(choice)
            case {"enum": choices}:
                words += choices
            case {"type": "integer" | "number" as number}:
                words.append("a whole number" if number == "integer" else "a number")
                bounds = (("minimum", "of at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"))
                limits = [f"{how} {kind[bound]:.15g}" for bound, how in bounds if bound in kind]
                words[-1] += " " * bool(limits) + " and ".join(limits)
            case {"prefixItems": items}:
                words.append(f"{len(items)} numbers separated by commas")
            case {"pattern": _}:
                words.append("an http(s) URL")
            case _:
                words.append("text")
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
