"""Why a worker could not draw, as both ends of its pipe say it.

A module of its own, since a worker, which is started for each image, imports neither asyncio nor pydantic.
"""


class DrawError(Exception):
    """A worker could not draw, through no fault of the image: `message` says why in one sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
