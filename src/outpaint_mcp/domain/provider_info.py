"""What `list_providers` says of a provider."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class SourceForm(StrEnum):
    """What a provider accepts as a source, in the words of `list_providers`."""

    GRID = "grid image"
    UPSCALED = "upscaled image"
    OWN_IMAGE = "own picture"


class Original(StrEnum):
    """What becomes of the original's pixels in the new image."""

    EXACT = "exact"
    PASTED_BACK = "pasted back"
    """The engine draws the whole image anew; the original is put over it here."""
    REDRAWN = "redrawn"
    """Nobody promises that they stay what they were."""


class ProviderInfo(BaseModel):
    """One provider, as `list_providers` shows it."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    configured: bool
    original: Original
    needs: tuple[str, ...]
    features: dict[str, dict[str, str]]
    zoom: dict[str, str]
    source: tuple[SourceForm, ...]
    price: str
    image_lifetime: str
    note: str
    docs_url: str
