"""One exchange: the request, its redirects, the answer within its bounds.

Redirects are followed here and not by aiohttp, because each step is checked like the first one: scheme, no
user in the URL, the guard. Across origins only headers that say nothing of the caller go on, and never that
of a credential. 303, and 301 or 302 after a POST, go on as GET without a body (RFC 9110 §15.4); 307 and 308
repeat the request.
"""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from reflux.core.errors import InvalidArgument, Violation
from reflux.nodes.http_request import faults
from reflux.nodes.http_request.guard import AddressRefused
from reflux.sdk import Reason, SpanKind

if TYPE_CHECKING:
    from reflux.nodes.http_request.guard import AddressGuard
    from reflux.nodes.http_request.model import Input
    from reflux.runtime.traces import Attributes
    from reflux.sdk import Basic, Bearer, Context, Header

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# A list of what may go on, since nobody can list every header that holds somebody's token.
_IMPERSONAL: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-encoding", "content-type", "user-agent"}
)
_USER_AGENT: Final = "reflux-http-request"
_CONNECT_SECONDS: Final = 10.0
_CHUNK: Final = 1 << 16
_NOT_IN_HOST: Final = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent next; changes with each redirect."""

    method: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes | None
    hops: int = 0
    secret: str | None = None
    """The header, in lower case, that a credential is in: it goes to no other origin."""

    @property
    def target(self) -> str:
        """For messages: without the query, which may hold a secret."""
        return f"{self.method} {self.url.with_query(None).with_fragment(None)}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from the last request."""

    request: Request
    status: int
    headers: CIMultiDict[str]
    body: bytes
    elapsed_ms: int


def first_request(given: Input, *, idempotency_key: str) -> Request:
    """The request that an input describes.

    Raises:
        InvalidArgument: the URL cannot be requested.
    """
    headers = CIMultiDict(given.headers)
    headers.setdefault("User-Agent", _USER_AGENT)
    if given.idempotency_header is not None:
        headers[given.idempotency_header] = idempotency_key
    body: bytes | None = None
    if "json_body" in given.model_fields_set:
        body = orjson.dumps(given.json_body)
        headers.setdefault("Content-Type", "application/json")
    elif given.text is not None:
        body = given.text.encode()
        headers.setdefault("Content-Type", "text/plain; charset=utf-8")
    elif given.base64 is not None:
        body = base64.b64decode(given.base64)
        headers.setdefault("Content-Type", "application/octet-stream")
    url = parse_url(given.url).extend_query(given.parameters) if given.query else parse_url(given.url)
    return Request(given.method, url, headers, body)


def authorized(request: Request, credential: Bearer | Basic | Header) -> Request:
    """The request with a credential.

    Raises:
        TargetFault: CREDENTIAL_UNFIT: it may not be sent there, or the input sets its header.
    """
    name, value = credential.header
    if not credential.may_go_to(str(request.url)):
        raise faults.unfit(f"the credential of this step may not be sent to {request.url.origin()}")
    if name in request.headers:
        raise faults.unfit(f"the header {name} is in the input, and the credential of this step sets it")
    headers = request.headers.copy()
    headers[name] = value
    return replace(request, headers=headers, secret=name.lower())


def parse_url(text: str, *, base: URL | None = None) -> URL:
    """A URL that may be requested; with `base`, a redirect's location.

    Raises:
        InvalidArgument: not absolute, another scheme than http and https, or with a user in it.
    """
    what = "the url" if base is None else f"the redirect from {base.with_query(None)}"
    try:
        url = URL(text if base is None else urljoin(str(base), text))
        host, port = url.host, url.port
        # Labels that DNS cannot carry would fail later, in the resolver.
        (url.raw_host or "").encode("idna")
    except ValueError:
        url, host, port = URL(), None, None
    if url.scheme not in {"http", "https"} or not host or not port or _NOT_IN_HOST.search(host):
        raise _refused(what, "is not an absolute http or https URL")
    if url.user is not None or url.password is not None:
        raise _refused(what, "has a user in it, which would be kept in the run; send a header instead")
    return url


def _refused(what: str, problem: str) -> InvalidArgument:
    message = f"{what} {problem}"
    return InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[Violation("/url", message)])


async def run(
    session: aiohttp.ClientSession,
    guard: AddressGuard,
    request: Request,
    given: Input,
    *,
    seconds: float,
    ctx: Context[Any],
) -> Answer:
    """Send, follow, read; at most `seconds` for all of it. Each request is a span of its own.

    Raises:
        TargetFault: see `faults`; an unaccepted status is not one here.
        InvalidArgument: a redirect leads to a URL that may not be requested.
    """
    began = time.monotonic()
    while True:
        left = seconds - (time.monotonic() - began)
        described = _described(request) if ctx.traceparent else None
        with ctx.span(request.method, kind=SpanKind.CLIENT, attributes=described) as span:
            try:
                guard.check_literal(request.url.host or "")
                async with session.request(
                    request.method,
                    request.url,
                    headers=_traced(request.headers, span.traceparent),
                    data=request.body,
                    timeout=aiohttp.ClientTimeout(total=max(left, 0.001), sock_connect=_CONNECT_SECONDS),
                    allow_redirects=False,
                ) as response:
                    span.set("http.response.status_code", response.status)
                    if response.status >= 400:
                        span.fail(str(response.status))
                    location = response.headers.get("Location")
                    if response.status not in _REDIRECTS or location is None or given.max_redirects == 0:
                        body = await _read(response, request, given.max_response_bytes)
                        elapsed = round((time.monotonic() - began) * 1000)
                        return Answer(request, response.status, response.headers.copy(), body, elapsed)
                    status = response.status
            except (aiohttp.ClientError, AddressRefused, TimeoutError, OSError) as error:
                raise faults.of_exception(error, target=request.target, first=request.hops == 0) from None
        if request.hops == given.max_redirects:
            raise faults.too_many_redirects(request.target, given.max_redirects)
        request = _redirected(request, status, location)


def _described(request: Request) -> Attributes:
    """A request as OpenTelemetry's conventions have it; of its URL only where it went.

    Paths hold tokens as often as queries do (`/bot<token>/sendMessage`), and traces leave the platform.
    """
    url = request.url
    again = {"http.request.resend_count": request.hops} if request.hops else {}
    return {
        "http.request.method": request.method,
        "url.scheme": url.scheme,
        "server.address": url.host or "",
        "server.port": url.port or 0,
        **again,
    }


def _traced(headers: CIMultiDict[str], traceparent: str) -> CIMultiDict[str]:
    """The headers with the trace sent on, unless the flow sends one of its own."""
    if not traceparent or "traceparent" in headers:
        return headers
    return CIMultiDict([*headers.items(), ("traceparent", traceparent)])


async def _read(response: aiohttp.ClientResponse, request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > limit:
            # What is still to come is not wanted, and neither is the connection.
            response.close()
            raise faults.too_large(request.target, limit)
    return bytes(body)


def _redirected(request: Request, status: int, location: str) -> Request:
    url = parse_url(location, base=request.url)
    headers = request.headers.copy()
    if url.origin() != request.url.origin():
        for name in {name.lower() for name in headers} - (_IMPERSONAL - {request.secret}):
            headers.popall(name)
    following = replace(request, url=url, headers=headers, hops=request.hops + 1)
    as_get = status == 303 or (status in {301, 302} and request.method == "POST")
    if not as_get or request.method == "HEAD":
        return following
    for name in ("Content-Type", "Content-Encoding"):
        headers.popall(name, None)
    return replace(following, method="GET", body=None)
