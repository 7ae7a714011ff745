"""Whoever has no valid token gets nothing: what is wrong with it makes no difference, and is told to nobody."""

import base64
import contextlib
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm
from starlette.types import Message, Receive, Scope, Send

from outpaint_mcp.bootstrap import build_http_app
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.settings import Settings
from outpaint_mcp.web.auth import KEYS_AGAIN_SECONDS, KEYS_SECONDS, MAX_KEYS_BYTES, MAX_TOKEN, Keys, fetch_keys
from outpaint_mcp.web.token_file import PREFIX, add_token, remove_tokens
from outpaint_mcp.web.uvicorn_server import listening, serving

from ..serving import settings_for
from ..transports.processes import http_server, until
from .target import Answer, Target, attacked, status_of, tokens_of

AUDIENCE = "https://outpaint.example/mcp"
PATHS = (("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/sse"), ("POST", "/messages/"))

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGERS_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def published(key_id: str = "rsa", **more: Any) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": key_id, **more}


EC_PUBLISHED = {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": "ec"}


@dataclass
class Issuer:
    """An authorization server, of which there is only the document with its keys."""

    url: str
    keys: list[Any] = field(default_factory=lambda: [published(), EC_PUBLISHED])
    status: int = 200
    location: str = ""
    pieces_before: int = 0
    fetches: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.fetches += 1
        headers = [(b"location", self.location.encode())] if self.location else []
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        piece: Message = {"type": "http.response.body", "body": b" " * 65_536, "more_body": True}
        for _ in range(self.pieces_before):
            await send(piece)
        await send({"type": "http.response.body", "body": json.dumps({"keys": self.keys}).encode()})

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300, "scope": "outpaint"}
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(self, *, key: Any = RSA_KEY, alg: str = "RS256", kid: Any = "rsa", **changes: Any) -> str:
        """A token that is good but for `changes` (a claim that is None is left out)."""
        return jwt.encode(self.claims(**changes), key, alg, {} if kid is None else {"kid": kid})

    def settings(self, folder: Path, **changes: Any) -> Settings:
        return settings_for(
            folder,
            oauth_issuer=self.url,
            oauth_jwks_url=f"{self.url}/keys",
            oauth_audience=AUDIENCE,
            oauth_scopes=("outpaint",),
            **changes,
        )


@contextlib.asynccontextmanager
async def issuing(**changes: Any) -> AsyncIterator[Issuer]:
    listener = listening("127.0.0.1", 0)
    issuer = Issuer(f"http://127.0.0.1:{listener.getsockname()[1]}", **changes)
    async with serving(issuer, listener):
        yield issuer


@dataclass(frozen=True, slots=True)
class Guarded:
    target: Target
    issuer: Issuer
    token: str
    """Ann's static one."""


@pytest.fixture(scope="module")
async def guarded(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """A server that takes both kinds of token."""
    folder = tmp_path_factory.mktemp("guarded")
    file, (token,) = tokens_of(folder, "ann")
    async with issuing() as issuer, attacked(issuer.settings(folder, tokens_file=file)) as target:
        yield Guarded(target, issuer, token)


def raw_token(header: Any, claims: Any, signature: bytes = b"") -> str:
    """A token made by hand, of what no library would write."""

    def packed(value: Any) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    return f"{packed(header)}.{packed(claims)}.{packed(signature)}"


def signed_with_the_public_key(issuer: Issuer) -> str:
    """What a verifier that lets the token choose its algorithm would take: the public key as a shared secret."""
    unsigned = raw_token({"alg": "HS256", "kid": "rsa"}, issuer.claims()).rpartition(".")[0]
    signature = hmac.new(PUBLIC_PEM, unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def with_other_claims(issuer: Issuer) -> str:
    """A good token whose middle was exchanged."""
    head, _, signature = issuer.token().split(".")
    return f"{head}.{raw_token({}, issuer.claims(sub='root')).split('.')[1]}.{signature}"


def expected_refusal(answer: Answer) -> None:
    assert answer.status == 401
    assert json.loads(answer.text) == {"error": "invalid_token", "error_description": "Authentication required"}
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


# Which tokens are taken


async def test_good_tokens_are_taken_so_that_the_refusals_mean_something(guarded: Guarded) -> None:
    tokens = [
        guarded.token,
        guarded.issuer.token(),
        guarded.issuer.token(key=EC_KEY, alg="ES256", kid="ec"),
        guarded.issuer.token(aud=["https://other.example", AUDIENCE]),
        guarded.issuer.token(exp=int(time.time()) - 5),
        guarded.issuer.token(scope=None, scp=["more", "outpaint"]),
    ]
    assert [(await guarded.target.ask(token=token)).status for token in tokens] == [200] * len(tokens)


BAD_TOKENS: dict[str, Callable[[Guarded], str]] = {
    "a wrong one": lambda guarded: PREFIX + "0" * 43,
    "a shortened one": lambda guarded: guarded.token[:-1],
    "one in another case": lambda guarded: guarded.token.swapcase(),
    "the digest in the file": lambda guarded: hashlib.sha256(guarded.token.encode()).hexdigest(),
    "dots": lambda guarded: "..",
    "no token at all": lambda guarded: "a.b.c",
    "nonsense in base64": lambda guarded: "%%%.%%%.%%%",
    "a header that is no object": lambda guarded: raw_token([1], {}),
    "a header that is no JSON": lambda guarded: raw_token(b"\xff", {}),
    "a header that is nested deeply": lambda guarded: raw_token(b'{"a":' + b"[" * 4000, {}),
    "claims that are nested deeply": lambda guarded: raw_token({"alg": "RS256", "kid": "rsa"}, b"[" * 5000),
    "one that is too long": lambda guarded: "a" * (MAX_TOKEN + 1),
    "a long one with dots": lambda guarded: "a." * (MAX_TOKEN // 2),
    "expired": lambda guarded: guarded.issuer.token(exp=int(time.time()) - 60),
    "not valid yet": lambda guarded: guarded.issuer.token(nbf=int(time.time()) + 60),
    "issued in the future": lambda guarded: guarded.issuer.token(iat=int(time.time()) + 600),
    "never to expire": lambda guarded: guarded.issuer.token(exp=None),
    "for another audience": lambda guarded: guarded.issuer.token(aud="https://other.example/mcp"),
    "for an audience like ours": lambda guarded: guarded.issuer.token(aud=AUDIENCE + "/"),
    "for no audience": lambda guarded: guarded.issuer.token(aud=None),
    "of another issuer": lambda guarded: guarded.issuer.token(iss="https://other.example"),
    "of an issuer like ours": lambda guarded: guarded.issuer.token(iss=guarded.issuer.url + "/"),
    "of no issuer": lambda guarded: guarded.issuer.token(iss=None),
    "of nobody": lambda guarded: guarded.issuer.token(sub=None),
    "alg none": lambda guarded: raw_token({"alg": "none", "kid": "rsa"}, guarded.issuer.claims()),
    "alg None": lambda guarded: raw_token({"alg": "None", "kid": "rsa"}, guarded.issuer.claims()),
    "alg none with a signature": lambda guarded: raw_token(
        {"alg": "none", "kid": "rsa"}, guarded.issuer.claims(), b"x" * 256
    ),
    "no alg": lambda guarded: raw_token({"kid": "rsa"}, guarded.issuer.claims(), b"x" * 256),
    "an alg that is no text": lambda guarded: raw_token({"alg": ["RS256"], "kid": "rsa"}, guarded.issuer.claims()),
    "HS256 with the public key": lambda guarded: signed_with_the_public_key(guarded.issuer),
    "RS256 without its signature": lambda guarded: raw_token({"alg": "RS256", "kid": "rsa"}, guarded.issuer.claims()),
    "a key for another algorithm": lambda guarded: guarded.issuer.token(key=EC_KEY, alg="ES256", kid="rsa"),
    "the right key with another algorithm": lambda guarded: guarded.issuer.token(alg="RS512"),
    "signed by a stranger": lambda guarded: guarded.issuer.token(key=STRANGERS_KEY),
    "an unknown key": lambda guarded: guarded.issuer.token(key=STRANGERS_KEY, kid="strangers"),
    "no key named among two": lambda guarded: guarded.issuer.token(kid=None),
    "a key id that is no text": lambda guarded: raw_token(
        {"alg": "RS256", "kid": 7}, guarded.issuer.claims(), b"x" * 256
    ),
    "a key id that is an object": lambda guarded: raw_token(
        {"alg": "RS256", "kid": {}}, guarded.issuer.claims(), b"x" * 256
    ),
    "a key of its own": lambda guarded: jwt.encode(
        guarded.issuer.claims(),
        STRANGERS_KEY,
        "RS256",
        {"kid": "rsa", "jwk": RSAAlgorithm.to_jwk(STRANGERS_KEY.public_key(), as_dict=True)},
    ),
    "a key to be fetched": lambda guarded: jwt.encode(
        guarded.issuer.claims(), STRANGERS_KEY, "RS256", {"kid": "rsa", "jku": f"{guarded.issuer.url}/evil"}
    ),
    "an extension that must be understood": lambda guarded: jwt.encode(
        guarded.issuer.claims(), RSA_KEY, "RS256", {"kid": "rsa", "crit": ["evil"], "evil": True}
    ),
    "other claims under the signature": lambda guarded: with_other_claims(guarded.issuer),
    "a time that is no number": lambda guarded: raw_signed(guarded.issuer, '"exp": "soon"'),
    "a time without end": lambda guarded: raw_signed(guarded.issuer, '"exp": 1e999'),
    "a subject that is no text": lambda guarded: raw_signed(guarded.issuer, '"sub": {"a": 1}'),
}


def raw_signed(issuer: Issuer, claim: str) -> str:
    """A token of the issuer's whose claims hold one that no library would write."""
    claims = json.dumps(issuer.claims())[:-1] + ", " + claim + "}"
    return jwt.api_jws.encode(claims.encode(), RSA_KEY, "RS256", {"kid": "rsa"})


@pytest.mark.parametrize("which", BAD_TOKENS)
async def test_a_bad_token_is_refused_and_nothing_says_what_is_wrong_with_it(guarded: Guarded, which: str) -> None:
    expected_refusal(await guarded.target.ask(token=BAD_TOKENS[which](guarded)))


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Basic YW5uOmFubg==", "bearer", "Token {token}", "{token}", "Bearer  {token}", "Bearer\t{token}"],
)
async def test_a_good_token_that_is_not_sent_as_a_bearers_is_refused(guarded: Guarded, value: str) -> None:
    expected_refusal(await guarded.target.ask(Authorization=value.format(token=guarded.token)))


async def test_a_good_token_anywhere_but_in_its_header_is_refused(guarded: Guarded) -> None:
    asked = await guarded.target.ask(
        f"/mcp?access_token={guarded.token}&token={guarded.token}", Cookie=f"token={guarded.token}"
    )
    expected_refusal(asked)


async def test_what_no_client_would_send_as_a_token_is_refused(guarded: Guarded) -> None:
    for value in (b"Bearer ", b"Bearer \xff\xfe", b"Bearer \xc3\xa9.\xc3\xa9.\xc3\xa9", b"Bearer " + b"\x80" * 9000):
        request = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\nAuthorization: "
        assert status_of(await guarded.target.says(request + value + b"\r\n\r\n")) == 401


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_every_mcp_path_asks_for_a_token(guarded: Guarded, method: str, path: str) -> None:
    expected_refusal(await guarded.target.ask(path, method=method))
    expected_refusal(await guarded.target.ask(path, method=method, token="wrong"))
    assert (await guarded.target.ask(path, method=method, token=guarded.token)).status not in (401, 403)


async def test_a_token_without_the_scope_is_forbidden_and_told_which_one_is_missing(guarded: Guarded) -> None:
    for scope in (None, "", "other", "outpaint2", "OUTPAINT"):
        for method, path in PATHS:
            answer = await guarded.target.ask(path, method=method, token=guarded.issuer.token(scope=scope))
            assert answer.status == 403
            assert json.loads(answer.text)["error"] == "insufficient_scope"
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
            assert "outpaint" in answer.headers["www-authenticate"]


async def test_a_token_that_is_removed_from_the_file_is_refused_from_then_on(tmp_path: Path) -> None:
    file, (anns, bobs) = tokens_of(tmp_path, "ann", "bob")
    async with attacked(settings_for(tmp_path, tokens_file=file)) as target:
        opened = await target.ask(token=anns)
        session = opened.headers["mcp-session-id"]
        remove_tokens(file, "ann")

        async def is_refused() -> bool:
            return (await target.ask(token=anns)).status == 401

        await until(is_refused, 5)
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        expected_refusal(await target.ask(json=ping, token=anns, Mcp_Session_Id=session))
        assert (await target.ask(token=bobs)).status == 200


async def test_nobody_is_let_in_while_the_file_cannot_be_read(tmp_path: Path) -> None:
    file, (anns,) = tokens_of(tmp_path, "ann")
    async with attacked(settings_for(tmp_path, tokens_file=file)) as target:
        assert (await target.ask(token=anns)).status == 200
        file.unlink()

        async def is_refused() -> bool:
            return (await target.ask(token=anns)).status == 401

        await until(is_refused, 5)
        again = add_token(file, "ann")

        async def is_taken() -> bool:
            return (await target.ask(token=again)).status == 200

        await until(is_taken, 5)
        expected_refusal(await target.ask(token=anns))


# The issuer's keys


async def refused(target: Target, token: str) -> None:
    expected_refusal(await target.ask(token=token))


async def test_unknown_keys_do_not_have_the_issuers_keys_fetched_at_will(tmp_path: Path) -> None:
    async with issuing() as issuer, attacked(issuer.settings(tmp_path)) as target:
        tokens = [issuer.token(key=STRANGERS_KEY, kid=f"strangers-{number}") for number in range(100)]
        async with anyio.create_task_group() as attackers:
            for token in tokens:
                attackers.start_soon(refused, target, token)
        for token in tokens[:5]:
            expected_refusal(await target.ask(token=token))
        assert issuer.fetches == 1
        assert (await target.ask(token=issuer.token())).status == 200
        assert issuer.fetches == 1


async def test_tokens_that_cannot_be_good_fetch_no_keys(tmp_path: Path) -> None:
    async with issuing() as issuer, attacked(issuer.settings(tmp_path)) as target:
        for token in ("a.b.c", raw_token({"alg": "none"}, issuer.claims()), signed_with_the_public_key(issuer)):
            expected_refusal(await target.ask(token=token))
        assert issuer.fetches == 0


async def test_keys_are_fetched_anew_in_time_and_not_more_often() -> None:
    now = 1000.0
    async with issuing() as issuer:
        keys = Keys(lambda: fetch_keys(f"{issuer.url}/keys"), seconds=lambda: now)
        assert await keys.get("rsa") is not None
        now += KEYS_AGAIN_SECONDS
        assert await keys.get("new") is None
        assert issuer.fetches == 1
        issuer.keys = [published("new")]
        now += 1
        assert await keys.get("new") is not None
        assert await keys.get("rsa") is None, "what the issuer has withdrawn is no longer used"
        assert issuer.fetches == 2
        now += KEYS_SECONDS + 1
        issuer.status = 503
        assert await keys.get("new") is not None, "an issuer that is away for a moment locks nobody out"
        assert issuer.fetches == 3


BAD_DOCUMENTS: dict[str, dict[str, Any]] = {
    "an error": {"status": 500},
    "a redirect to the right keys": {"status": 302, "location": "/again"},
    "more than there can be": {"keys": [published(), "x" * MAX_KEYS_BYTES]},
    "hardly an end": {"pieces_before": 1000},
    "a shared secret": {
        "keys": [{**HMACAlgorithm.to_jwk(b"x" * 32, as_dict=True), "kid": "rsa", "alg": "HS256"}],
    },
    "a shared secret that says it is RSA": {"keys": [published(alg="HS256")]},
    "a key for no algorithm": {"keys": [published(alg="none")]},
    "a key for encryption": {"keys": [published(use="enc")]},
    "a key for another algorithm": {"keys": [published(alg="RS512")]},
    "a key that is none": {"keys": [{"kty": "RSA", "kid": "rsa", "n": "!", "e": "AQAB"}]},
    "a key without parts": {"keys": [{"kty": "RSA", "kid": "rsa"}]},
    "entries that are no keys": {"keys": [None, 1, "x", []]},
}


@pytest.mark.parametrize("which", BAD_DOCUMENTS)
async def test_a_document_of_keys_that_is_not_as_it_should_be_lets_nobody_in(tmp_path: Path, which: str) -> None:
    async with issuing(**BAD_DOCUMENTS[which]) as issuer, attacked(issuer.settings(tmp_path)) as target:
        with anyio.fail_after(10):
            expected_refusal(await target.ask(token=issuer.token()))
            secret = jwt.encode(issuer.claims(), b"x" * 32, "HS256", {"kid": "rsa"})
            expected_refusal(await target.ask(token=secret))
        assert issuer.fetches == 1, "a redirect is not followed"


async def test_one_strange_key_does_not_spoil_the_others(tmp_path: Path) -> None:
    strange = [published("a", alg="none"), {"kty": "RSA"}, None, {"kty": "EC", "crv": "?", "x": 1}, published()]
    async with issuing(keys=strange) as issuer, attacked(issuer.settings(tmp_path)) as target:
        assert (await target.ask(token=issuer.token())).status == 200


async def test_an_issuer_that_is_down_locks_out_its_own_callers_only(tmp_path: Path) -> None:
    file, (token,) = tokens_of(tmp_path, "ann")
    async with issuing() as issuer:
        pass
    async with attacked(issuer.settings(tmp_path, tokens_file=file)) as target:
        expected_refusal(await target.ask(token=issuer.token()))
        assert (await target.ask(token=token)).status == 200


# What clients are told


@pytest.mark.parametrize(
    ("public_url", "resource", "metadata"),
    [
        (None, "{base}/mcp", "{base}/.well-known/oauth-protected-resource/mcp"),
        (
            "https://outpaint.example",
            "https://outpaint.example/mcp",
            "https://outpaint.example/.well-known/oauth-protected-resource/mcp",
        ),
        (
            "https://outpaint.example/behind/",
            "https://outpaint.example/behind/mcp",
            "https://outpaint.example/.well-known/oauth-protected-resource/behind/mcp",
        ),
    ],
)
async def test_a_client_without_a_token_is_told_where_to_get_one(
    tmp_path: Path, public_url: str | None, resource: str, metadata: str
) -> None:
    async with issuing() as issuer, attacked(issuer.settings(tmp_path, public_url=public_url)) as target:
        for method, path in PATHS:
            asked = await target.ask(path, method=method)
            url = metadata.format(base=target.base_url)
            assert asked.status == 401
            assert f'resource_metadata="{url}"' in asked.headers["www-authenticate"]
        document = await target.ask(httpx2.URL(url).path, method="GET")
        assert document.status == 200
        assert json.loads(document.text) | {"resource_name": ""} == {
            "resource": resource.format(base=target.base_url),
            "authorization_servers": [f"{issuer.url}/"],
            "scopes_supported": ["outpaint"],
            "bearer_methods_supported": ["header"],
            "resource_name": "",
        }


async def test_by_default_the_audience_is_this_servers_own_url(tmp_path: Path) -> None:
    async with issuing() as issuer:
        settings = issuer.settings(tmp_path, public_url="https://outpaint.example").model_copy(
            update={"oauth_audience": None}
        )
        async with attacked(settings) as target:
            assert (await target.ask(token=issuer.token(aud="https://outpaint.example/mcp"))).status == 200
            expected_refusal(await target.ask(token=issuer.token(aud="https://outpaint.example")))
            expected_refusal(await target.ask(token=issuer.token(aud=f"{target.base_url}/mcp")))


async def test_static_tokens_alone_point_to_no_authorization_server(tmp_path: Path) -> None:
    file, _ = tokens_of(tmp_path, "ann")
    async with attacked(settings_for(tmp_path, tokens_file=file)) as target:
        answer = await target.ask()
        expected_refusal(answer)
        assert "resource_metadata" not in answer.headers["www-authenticate"]
        missing = await target.ask("/.well-known/oauth-protected-resource/mcp", method="GET")
        assert missing.status == 404


# What is kept secret


async def test_no_token_is_in_an_answer_or_in_the_log_of_a_server_that_tells_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file, (token,) = tokens_of(tmp_path, "ann")
    async with issuing() as issuer, attacked(issuer.settings(tmp_path, tokens_file=file)) as target:
        secrets = [
            token,
            issuer.token(),
            PREFIX + "wrong-but-perhaps-nearly-right",
            issuer.token(exp=1),
            issuer.token(scope="other"),
            issuer.token(key=STRANGERS_KEY),
            issuer.token(kid="unknown"),
        ]
        told = ""
        for secret in secrets:
            for method, path in PATHS:
                answer = await target.ask(path, method=method, token=secret)
                told += f"{answer.status} {answer.headers} {answer.text}\n"
            if secret in secrets[:2]:
                async with target.client(token=secret) as client:
                    tools = await client.call_tool("list_providers", {})
                    told += tools.model_dump_json()
    assert caplog.text
    for secret in secrets:
        for part in (secret, *secret.split(".")[1:]):
            assert part not in told
            # The client's own log is its own affair.
            ours = [one for one in caplog.records if not one.name.startswith(("httpx2", "httpcore2", "mcp.client"))]
            assert not any(part in one.getMessage() or part in str(one.exc_text) for one in ours)


async def test_no_secret_is_in_what_a_server_process_writes_while_it_tells_everything(tmp_path: Path) -> None:
    file, (token,) = tokens_of(tmp_path, "ann")
    key, secret, query = "key-0123456789abcdef", "hush-hush-webhook", "hush-hush-query"
    environment = {
        "OUTPAINT_LOG_LEVEL": "DEBUG",
        "OUTPAINT_TOKENS_FILE": str(file),
        "OUTPAINT_DATA_DIR": str(tmp_path / "data"),
        "LEGNEXT_API_KEY": key,
        "LEGNEXT_BASE_URL": "http://127.0.0.1:9",
        "PIAPI_API_KEY": key,
        "PIAPI_BASE_URL": "http://127.0.0.1:9",
    }
    order = {
        "task_id": "0123456789abcdef0123456789abcdef",
        "provider": "piapi",
        "webhook_url": f"http://127.0.0.1:9/a?{query}",
        "webhook_secret": secret,
    }
    async with http_server(environment) as server:
        for door in ("http", "http-legacy", "sse"):
            async with server.client(door, token=token) as client:
                assert (await client.call_tool("outpaint", order)).is_error
        wrong = await Target(httpx2.URL(server.base_url).port or 0).ask(token=token[:-3])
        assert wrong.status == 401
        log = server.log.decode()
    assert "DEBUG" in log
    assert [word for word in (token, token[:-3], key) if word in log] == []
    assert [word for word in (secret, query) if word in log] == []


def test_access_tokens_need_a_url_that_they_are_issued_for(tmp_path: Path) -> None:
    oauth = {"oauth_issuer": "https://login.example", "oauth_jwks_url": "https://login.example/keys"}
    with pytest.raises(ConfigurationError, match="OUTPAINT_PUBLIC_URL"):
        build_http_app(settings_for(tmp_path, **oauth), host="0.0.0.0", port=8000)  # noqa: S104 - refused
    build_http_app(settings_for(tmp_path, **oauth, public_url="https://here.example"), host="0.0.0.0", port=8000)  # noqa: S104
