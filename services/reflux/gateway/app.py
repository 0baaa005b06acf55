"""The gateway's paths: what each takes, refuses and answers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reflux.core.errors import InvalidArgument, RefluxError, Violation
from reflux.core.names import is_id
from reflux.core.reasons import Reason
from reflux.gateway import approve, errors, openapi

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from reflux.gateway.hooks import Hooks
    from reflux.gateway.watches import Watches

_FORWARDED: Final = ("traceparent", "tracestate", "x-reflux-actor")
"""Headers that go on to the orchestrator: the trace, and who asks (set by the edge)."""
_HOOK_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MAX_SEQ: Final = 2**31 - 1


def application(watches: Watches, hooks: Hooks) -> Starlette:
    """The gateway as an ASGI application over `watches` and `hooks`."""
    document = openapi.as_yaml()

    async def index(request: Request) -> Response:
        _refuse_unknown(request, ())
        return JSONResponse(_index())

    async def describe(request: Request) -> Response:
        _refuse_unknown(request, ())
        return Response(document, media_type="application/yaml")

    async def watch(request: Request) -> Response:
        _refuse_unknown(request, ("after",))
        run_id = request.path_params["run_id"]
        if not is_id(run_id):
            raise _invalid("run_id", f"{run_id!r} is not the id of a run: a UUID")
        response = await watches.open(run_id.lower(), _position(request), _metadata(request))
        return response or Response(status_code=204)

    async def hook(request: Request) -> Response:
        return await hooks.deliver(request, _metadata(request))

    app = Starlette(
        routes=[
            _get("/", index),
            _get("/openapi.yaml", describe),
            *(_get(path, _always(answer)) for path, answer in approve.files()),
            _get("/api/runs/{run_id}:watch", watch),
            Route("/hooks/{path:path}", hook, methods=_HOOK_METHODS),
        ],
        exception_handlers={
            RefluxError: errors.on_error,
            HTTPException: errors.on_refusal,
            Exception: errors.on_defect,
        },
    )
    app.router.redirect_slashes = False  # a path is right or unknown
    return app


def _metadata(request: Request) -> list[tuple[str, str]]:
    return [(name, request.headers[name]) for name in _FORWARDED if name in request.headers]


def _get(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    """GET and nothing else: a HEAD on a stream would never end."""
    route = Route(path, endpoint, methods=["GET"])
    route.methods = {"GET"}
    return route


def _always(answer: Response) -> Callable[[Request], Awaitable[Response]]:
    """The same for everybody."""

    async def endpoint(request: Request) -> Response:
        _refuse_unknown(request, ())
        return answer

    return endpoint


def _index() -> dict[str, object]:
    try:
        release = version("reflux")
    except PackageNotFoundError:  # run from a source tree that is not installed
        release = "unreleased"
    collections = ("flows", "runs", "triggers", "nodes", "routes")
    links = {"openapi": "/openapi.yaml", **{name: f"/api/{name}" for name in collections}}
    return {"name": "reflux", "version": release, "links": links}


def _position(request: Request) -> int:
    """The last fact the caller has. A browser keeps the URL when it reconnects, so its header wins."""
    if (header := request.headers.get("last-event-id")) is not None:
        return _sequence_number("Last-Event-ID", header)
    return _sequence_number("after", request.query_params.get("after", "0"))


def _sequence_number(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_SEQ:
        return int(text)
    raise _invalid(name, f"{text!r} is not a sequence number: 0 to {_MAX_SEQ}")


def _refuse_unknown(request: Request, known: Sequence[str]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            raise _invalid(name, f"unknown query parameter {name!r}")
        if names.count(name) > 1:
            raise _invalid(name, f"query parameter {name!r} is given more than once")


def _invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[Violation(field, message)])
