"""A REST client as plain as curl: it shows status, headers and body, and judges nothing."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Their names in any case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    def ok(self) -> Any:
        """The body of a call that must have worked."""
        assert self.status < 400, f"{self.status}: {self.body.decode(errors='replace')}"
        return self.json


def send(method: str, url: str, body: bytes | None, headers: Mapping[str, str], *, seconds: float) -> Answer:
    """One request and its answer, whatever the status."""
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


@dataclass(frozen=True, slots=True)
class Rest:
    """Calls below one URL."""

    url: str

    def __call__(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        raw: bytes | None = None,
        content_type: str | None = "application/json",
        headers: Mapping[str, str] | None = None,
        seconds: float = 60.0,
    ) -> Answer:
        """Sends a JSON document, or raw bytes."""
        data = raw if raw is not None else None if document is None else json.dumps(document).encode()
        typed = {"Content-Type": content_type} if content_type and data is not None else {}
        return send(method, self.url + path, data, {**typed, **(headers or {})}, seconds=seconds)

    def get(self, path: str) -> Any:
        """A GET that must work."""
        return self("GET", path).ok()

    def post(self, path: str, document: Any = None, **options: Any) -> Any:
        """A POST that must work."""
        return self("POST", path, document, **options).ok()
