"""Authentication over HTTP: static bearer tokens, and OAuth 2.1 access tokens signed by an authorization server.

This server is a resource server only: it issues no tokens and has no login (RFC 9728 metadata tells clients where).
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx2
import jwt
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, TokenVerifier

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.web.token_file import TokenFile

logger = logging.getLogger(__name__)

ANONYMOUS = "anonymous"
"""The client of every request on a server that requires no token."""

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""What a token may be signed with: asymmetric algorithms only."""
LEEWAY_SECONDS = 10.0
KEYS_SECONDS = 600.0
"""How long fetched keys are used before they are fetched again."""
KEYS_AGAIN_SECONDS = 30.0
"""How long after a fetch, even a failed one, no other follows: else anybody could trigger fetches at will."""
KEYS_TIMEOUT_SECONDS = 5.0
MAX_KEYS_BYTES = 1 << 18
MAX_TOKEN = 8192


@dataclass(frozen=True, slots=True)
class OAuth:
    """Whose access tokens are accepted.

    Args:
        issuer: the authorization server; a token's ``iss`` must equal it.
        audience: a token's ``aud`` must hold it.
        jwks_url: where the issuer publishes its keys.
        scopes: the scopes that a token must have.
    """

    issuer: str
    audience: str
    jwks_url: str
    scopes: tuple[str, ...] = ()


class Keys:
    """The public keys of an authorization server, fetched when they are needed.

    Not PyJWT's `PyJWKClient` (2.15), which holds three properties only if its fetch, its cache and its look-up are all
    overridden: the document has a size limit; failed fetches are rate-limited too, and the old keys stay in use after
    one; a token that waits for a fetch holds no thread, nor does one whose key is known.

    Args:
        fetch: gets the JWKS document. Tests pass their own.
        seconds: a monotonic clock.
    """

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = anyio.Lock()

    async def get(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key with this id, or None. If a fetch fails, the keys of the last one stay in use."""
        if self._needs_fetch(key_id):
            async with self._lock:
                if self._needs_fetch(key_id):
                    await self._refresh()
        return self._keys.get(key_id)

    def _needs_fetch(self, key_id: str | None) -> bool:
        now = self._seconds()
        stale = now - self._fetched_at > KEYS_SECONDS
        return (stale or key_id not in self._keys) and now - self._tried_at > KEYS_AGAIN_SECONDS

    async def _refresh(self) -> None:
        self._tried_at = self._seconds()
        try:
            document = json.loads(await self._fetch())
            found = [key for entry in document["keys"] if (key := _key_of(entry)) is not None]
        except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.error("the authorization server's keys cannot be fetched: %s", type(error).__name__)
            return
        self._keys = {key.key_id: key for key in found}
        if len(found) == 1:
            # A token need not name its key if there is only one.
            self._keys[None] = found[0]
        self._fetched_at = self._tried_at


def _key_of(entry: Any) -> jwt.PyJWK | None:
    """A published key, if it is a public one for verifying signatures with an accepted algorithm; else None."""
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig":
        return None
    if "alg" in entry and entry["alg"] not in ALGORITHMS:
        return None
    try:
        return jwt.PyJWK(entry)
    except (jwt.PyJWTError, NotImplementedError, ValueError, TypeError, OverflowError, RecursionError):
        return None


async def fetch_keys(url: str) -> bytes:
    """The JWKS document at `url`, without following redirects.

    Raises:
        httpx2.HTTPError: it cannot be fetched.
        ValueError: its status is not 200, or it is too long.
    """
    async with (
        httpx2.AsyncClient(timeout=KEYS_TIMEOUT_SECONDS) as client,
        client.stream("GET", url, follow_redirects=False) as response,
    ):
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}")
        document = b""
        async for piece in response.aiter_bytes():
            document += piece
            if len(document) > MAX_KEYS_BYTES:
                raise ValueError("too long")
        return document


class ClientVerifier(TokenVerifier):
    """Verifies bearer tokens, static and signed.

    Args:
        resource: this server's own URL; every token that is accepted is reported as issued for it.
        tokens: the static tokens, or None.
        oauth: whose signed tokens are accepted, or None.
        keys: the keys of `oauth`'s issuer.
    """

    def __init__(self, resource: str, tokens: TokenFile | None, oauth: OAuth | None, keys: Keys | None) -> None:
        self._resource = resource
        self._tokens = tokens
        self._oauth = oauth
        self._keys = keys

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token's owner and scopes, or None if it is not valid."""
        if len(token) > MAX_TOKEN:
            return None
        if self._tokens is not None and (name := self._tokens.name_of(token)) is not None:
            scopes = list(self._oauth.scopes) if self._oauth is not None else []
            return AccessToken(token="", client_id=name, scopes=scopes, resource=self._resource)
        if self._oauth is not None and self._keys is not None and token.count(".") == 2:
            return await self._signed(token, self._oauth, self._keys)
        return None

    async def _signed(self, token: str, oauth: OAuth, keys: Keys) -> AccessToken | None:
        try:
            head = jwt.get_unverified_header(token)
            key_id = head.get("kid")
            if head.get("alg") not in ALGORITHMS or not isinstance(key_id, str | None):
                return None
            key = await keys.get(key_id)
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=oauth.audience,
                issuer=oauth.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            logger.debug("a token was rejected: %s", type(error).__name__)
            return None
        subject = claims.get("sub")
        client = claims.get("client_id") or claims.get("azp") or subject
        if not isinstance(client, str) or not isinstance(subject, str | None):
            return None
        scope = claims.get("scope") or claims.get("scp") or []
        return AccessToken(
            # Nothing needs it once it is verified, and what is not there cannot be logged.
            token="",
            client_id=client,
            scopes=scope.split() if isinstance(scope, str) else [str(one) for one in scope],
            expires_at=int(claims["exp"] + LEEWAY_SECONDS),
            resource=self._resource,
            subject=subject,
            claims={"iss": oauth.issuer},
        )


def client_of_request(*, required: bool) -> str:
    """The client of the current request; its tasks, daily limits and order identity are its own.

    Args:
        required: whether every request must have a token.

    Raises:
        RuntimeError: `required` and there is none: a bug, which must not pass for a client.
    """
    token = get_access_token()
    if token is None:
        if required:
            raise RuntimeError("a request without a client got past the check")
        return ANONYMOUS
    issuer = (token.claims or {}).get("iss")
    if issuer is None:
        return f"token:{token.client_id}"
    return f"oauth:{token.subject or token.client_id}@{issuer}"


def oauth_of(issuer: str | None, jwks_url: str | None, *, audience: str, scopes: tuple[str, ...]) -> OAuth | None:
    """Whose access tokens are accepted, by the operator's settings; None if nobody's are.

    Raises:
        ConfigurationError: one of the two is missing, or could be forged on its way.
    """
    if issuer is None and jwks_url is None:
        return None
    if issuer is None or jwks_url is None:
        raise ConfigurationError(
            "OUTPAINT_OAUTH_ISSUER and OUTPAINT_OAUTH_JWKS_URL go together.", "Set both, or neither."
        )
    for name, url in (("ISSUER", issuer), ("JWKS_URL", jwks_url)):
        if not _is_loopback_or_https(url):
            raise ConfigurationError(
                f"OUTPAINT_OAUTH_{name} is no https URL: it could be forged.", "Set it to an https URL."
            )
    return OAuth(issuer, audience, jwks_url, scopes)


def _is_loopback_or_https(url: str) -> bool:
    """Whether nothing sent to `url` can be read or changed on its way."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))
