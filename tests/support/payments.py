"""The outside world of payments, as tests see it: `payment_providers.py` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.payment_providers import PROVIDERS, Move

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PROVIDERS", "Move", "Payments", "running_payments"]


@dataclass(frozen=True, slots=True)
class Payments:
    """The running providers."""

    control: str
    urls: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What a node needs to reach them."""
        keys = {
            "STRIPE_API_KEY": "sk_test_nobody",
            "PAYPAL_CLIENT_ID": "client",
            "PAYPAL_CLIENT_SECRET": "nobody's secret",
            "SQUARE_ACCESS_TOKEN": "square-nobody",
        }
        return keys | {f"{name.upper()}_BASE_URL": url for name, url in self.urls.items()}

    def plan(self, provider: str, *faults: str) -> None:
        """What becomes of the next charges of a provider."""
        self._post("plan", {"provider": provider, "faults": faults})

    def odds(self, seed: int, **odds: float) -> None:
        """What becomes of charges by chance."""
        self._post("odds", {"seed": seed, "odds": odds})

    def refuse(self, provider: str, *, refusing: bool = True) -> None:
        """Whether a provider refuses connections."""
        self._post("refusing", {"provider": provider, "refusing": refusing})

    def show(self) -> None:
        """Lists what was hidden."""
        self._post("show", {})

    def charges(self, order: str | None = None) -> list[dict[str, Any]]:
        """Every charge, or those of one order."""
        charges: list[dict[str, Any]] = self._get("charges")
        return [each for each in charges if order is None or each["order"] == order]

    def moves(self) -> list[Move]:
        """All money that ever moved, in order: what was given back has moved twice."""
        return [Move(**each) for each in self._get("moves")]

    def count(self) -> int:
        """How many charges there were."""
        return int(self._get("count"))

    def requests(self, provider: str) -> int:
        """How many requests to charge it got, repeated ones too."""
        return int(self._get("requests").get(provider, 0))

    def faults(self) -> Counter[str]:
        """How often each fault was met; `ok` is none."""
        return Counter(self._get("faults"))

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.control}/{path}", timeout=30) as response:
            return json.load(response)

    def _post(self, path: str, body: object) -> None:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.control}/{path}", data=data, method="POST")
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextmanager
def running_payments() -> Iterator[Payments]:
    """The providers on free ports, gone after the block."""
    command = [sys.executable, "-m", "tests.support.payment_providers"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the providers did not start"
        urls = json.loads(line)
        yield Payments(urls.pop("control"), urls)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
