"""What a gateway counts."""

from __future__ import annotations

from typing import Final

from reflux.runtime.metrics import Gauge

WATCHES_OPEN: Final = Gauge("reflux.watches.open", unit="{watch}", text="Runs being watched through here")
