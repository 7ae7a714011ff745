"""How a bucket is named whose objects are the images of several servers: ``s3://bucket/prefix``. Pure."""

import re
from dataclasses import dataclass
from typing import Final, Self

_URL: Final = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{2,62})((?:/[A-Za-z0-9._=@+-]+)*)/*")


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """A bucket, and what the names of all our objects in it begin with; empty is nothing."""

    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Raises:
            ValueError: it is none. Nothing else may stand in it: no endpoint, no region and above all no key, which are
                the environment's (``AWS_*``).
        """
        found = _URL.fullmatch(text.strip())
        if found is None or {".", ".."} & set(found[2].split("/")):
            raise ValueError("the s3:// URL of a bucket and nothing else but a prefix")
        return cls(found[1], found[2].strip("/"))


def checked_bucket_url(text: str | None) -> str | None:
    """The text, if it is none or a bucket's URL. Raises as `BucketUrl.parse` does."""
    if text is not None:
        BucketUrl.parse(text)
    return text
