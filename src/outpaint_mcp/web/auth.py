"""Who calls over HTTP: static bearer tokens, and OAuth 2.1 access tokens that an authorization server has signed.

This server is a resource server only: it issues nothing and asks nobody to log in (RFC 9728 tells clients where).
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

from outpaint_mcp.web.token_file import TokenFile

logger = logging.getLogger(__name__)

ANONYMOUS = "anonymous"
"""The client on a server that asks nobody who they are."""

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""What a token may be signed with: nothing that a shared secret, or none, would do for."""
LEEWAY_SECONDS = 10.0
KEYS_SECONDS = 600.0
"""How long fetched keys are used before they are fetched anew."""
KEYS_AGAIN_SECONDS = 30.0
"""How long after a fetch an unknown key id leads to another one: else anybody could have them fetched at will."""
KEYS_TIMEOUT_SECONDS = 5.0
MAX_KEYS_BYTES = 1 << 18
MAX_TOKEN = 8192


@dataclass(frozen=True, slots=True)
class OAuth:
    """Whose access tokens are taken.

    Args:
        issuer: the authorization server; a token's ``iss`` must equal it.
        audience: a token's ``aud`` must hold it.
        jwks_url: where the issuer publishes its keys.
        scopes: what a token must allow.
    """

    issuer: str
    audience: str
    jwks_url: str
    scopes: tuple[str, ...] = ()


class Keys:
    """The public keys of an authorization server, fetched when they are needed.

    Args:
        fetch: gets the document at the URL of the keys. Tests pass their own.
        seconds: a clock that only runs forward.
    """

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = anyio.Lock()

    async def get(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key with this id, or None. Keys that cannot be fetched anew go on being used."""
        if self._wanting(key_id):
            async with self._lock:
                if self._wanting(key_id):
                    await self._refresh()
        return self._keys.get(key_id)

    def _wanting(self, key_id: str | None) -> bool:
        now = self._seconds()
        stale = now - self._fetched_at > KEYS_SECONDS
        return (stale or key_id not in self._keys) and now - self._tried_at > KEYS_AGAIN_SECONDS

    async def _refresh(self) -> None:
        self._tried_at = self._seconds()
        try:
            document = json.loads(await self._fetch())
            found = [key for entry in document["keys"] if (key := _key_of(entry)) is not None]
        except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.error("the authorization server's keys cannot be had: %s", type(error).__name__)
            return
        self._keys = {key.key_id: key for key in found}
        if len(found) == 1:
            # A token need not name the only key there is.
            self._keys[None] = found[0]
        self._fetched_at = self._tried_at


def _key_of(entry: Any) -> jwt.PyJWK | None:
    """A published key, if it is a public one to verify signatures with, of a kind that is taken here."""
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig":
        return None
    if "alg" in entry and entry["alg"] not in ALGORITHMS:
        return None
    try:
        return jwt.PyJWK(entry)
    except (jwt.PyJWTError, NotImplementedError, ValueError, TypeError):
        return None


async def fetch_keys(url: str) -> bytes:
    """The document at `url`, without following redirects.

    Raises:
        httpx2.HTTPError: it cannot be had.
        ValueError: it is too long.
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
    """Tells whose token it is.

    Args:
        resource: this server's own URL; every token that is taken is reported as issued for it.
        tokens: the static ones, or None.
        oauth: whose signed ones, or None.
        keys: the keys of `oauth`'s issuer.
    """

    def __init__(self, resource: str, tokens: TokenFile | None, oauth: OAuth | None, keys: Keys | None) -> None:
        self._resource = resource
        self._tokens = tokens
        self._oauth = oauth
        self._keys = keys

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token's owner and rights, or None if it is not to be taken."""
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
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            logger.debug("a token was not taken: %s", type(error).__name__)
            return None
        subject = claims.get("sub")
        client = claims.get("client_id") or claims.get("azp") or subject
        if not isinstance(client, str) or not isinstance(subject, str | None):
            return None
        scope = claims.get("scope") or claims.get("scp") or []
        return AccessToken(
            # Whoever verified it needs it no more, and what is not there cannot be logged.
            token="",
            client_id=client,
            scopes=scope.split() if isinstance(scope, str) else [str(one) for one in scope],
            expires_at=int(claims["exp"] + LEEWAY_SECONDS),
            resource=self._resource,
            subject=subject,
            claims={"iss": oauth.issuer},
        )


def client_of_request(*, required: bool) -> str:
    """The client of the request that is being answered; tasks, budgets and order identity are theirs.

    Args:
        required: nobody gets here without a token.

    Raises:
        RuntimeError: `required` and there is none: a fault of this program, which must not pass for a client.
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


def is_loopback_or_https(url: str) -> bool:
    """Whether what goes to `url` cannot be read or changed on its way."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))
