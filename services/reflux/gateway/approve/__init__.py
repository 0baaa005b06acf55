"""The page behind an approval's link: `/approve#<token>`, for a person who has no account here.

Three files, the same for everybody: what is asked is fetched by the page itself, from the two calls of
`RunService` that take a token. The token stands in the fragment of the link, which a browser keeps to itself,
so no server, proxy or log on the way sees it; it travels in bodies alone.

What the page may do is closed by its Content-Security-Policy: run this one script, ask this origin, and
nothing else. Text of a flow is set as text; the policy stands behind that. No page may frame it, so nobody
can be led to press a button unseen.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # the three files belong together
}
_FILES: Final = (
    ("/approve", "page.html", "text/html"),
    ("/approve.css", "page.css", "text/css"),
    ("/approve.js", "page.js", "text/javascript"),
)


def files() -> Iterator[tuple[str, Response]]:
    """Path and answer of each file, read once: an answer is sent as often as it is asked for."""
    for path, name, media_type in _FILES:
        content = resources.files(__package__).joinpath(name).read_bytes()
        yield path, Response(content, media_type=media_type, headers=HEADERS)
