"""Which URLs are on this machine: the sandbox sends to no other and reads from no other."""

import ipaddress
from urllib.parse import urlsplit


def is_http_url(url: str) -> bool:
    """Whether `url` is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def is_loopback(url: str) -> bool:
    """Whether `url` is an http(s) URL on this machine, by its literal host: names other than localhost are not."""
    if not is_http_url(url):
        return False
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
