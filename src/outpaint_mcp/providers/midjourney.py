"""What is known of Midjourney itself, whoever passes its operations on: facts for `list_providers` and for refusals."""

from typing import Final

NO_V8_ZOOM: Final = "Midjourney V8 images have no zoom out (one public source, 2026)."
MEASURED_BUTTON: Final = "The 1.5x button was once measured to zoom 1.33 (one public source)."
