"""The admin interface of a proxy, for the operator at its machine: what it serves now, and its runtime.

It can stop the proxy, so it listens on loopback only, and this client talks to nothing else: an address that
is not this machine's is refused here too, rather than tempting anybody to open the port. To tune a proxy
elsewhere, run the command there, or forward its port.

Where it is: `--admin URL`, else the running stack's `run/stack.json`.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from reflux.cli.failures import CommandError, of_error, wrong
from reflux.core.errors import Unavailable
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.cli.target import Target

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
SECONDS: Final = 10.0
MAX_BYTES: Final = 256 << 20
"""Of one answer: a configuration of thousands of versions."""


class Admin:
    """One proxy's admin interface."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self._host}:{self._port}"

    def get(self, path: str) -> Any:
        """A JSON document of it."""
        return json.loads(self._ask("GET", path))

    def post(self, path: str) -> str:
        """Change something; what it answers."""
        return self._ask("POST", path).decode()

    def modify(self, keys: Mapping[str, str]) -> None:
        """Set runtime keys; an empty value takes one back."""
        self.post(f"/runtime_modify?{urlencode(keys)}")

    def _ask(self, method: str, path: str) -> bytes:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=SECONDS)
        try:
            connection.request(method, path, headers={"connection": "close"})
            response = connection.getresponse()
            body = response.read(MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            text = f"no admin interface answers at {self.url}: {error}"
            raise CommandError(of_error(Unavailable(Reason.SERVICE_UNREACHABLE, text))) from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            words = body.decode(errors="replace").strip()
            text = f"{self.url}{path.partition('?')[0]} answered {response.status}: {words}"
            raise CommandError(of_error(Unavailable(Reason.SERVICE_UNREACHABLE, text)))
        return body


def find(url: str | None, target: Target) -> Admin:
    """The admin interface to talk to.

    Raises:
        CommandError: none is known, or it is not on this machine.
    """
    if url is None:
        if target.stack is None:
            hint = "name one that listens on this machine: --admin http://127.0.0.1:9901"
            raise wrong("no stack runs on this data folder, so no admin interface is known", hint=hint)
        url = str(target.stack["urls"]["admin"])
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "http" or port is None or parts.path.strip("/"):
        raise wrong(f"{url!r} is not a URL such as http://127.0.0.1:9901")
    if parts.hostname not in LOOPBACK:
        hint = "run the command on the proxy's machine, or forward the port (ssh -L 9901:127.0.0.1:9901)"
        raise wrong(f"an admin interface is reached on loopback only, not at {parts.hostname!r}", hint=hint)
    return Admin(parts.hostname, port)
