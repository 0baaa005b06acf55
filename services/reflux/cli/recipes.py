"""What can be tuned on a running proxy, by name: the runtime keys of each recipe, and what they do.

A recipe holds at once and until the proxy restarts; taking it back sets its keys to nothing, so that the
configuration counts again. `{it}` in a key stands for what the recipe is about: a version (`NODE@VERSION`) or
a chain, whose names `reflux mesh config NODE` shows. Weights are not here: a weight that the runtime changed
would be missing from the journal's account of each choice, so they are changed by routes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Recipe:
    """One thing to tune."""

    name: str
    does: str
    keys: dict[str, str]
    """Values by runtime key; `{value}` is the one that is given."""
    about: str = ""
    """What `{it}` stands for: version or chain; empty for a recipe that holds for all."""
    value: str = ""
    """The default of `{value}`."""

    def settings(self, it: str, value: str | None) -> dict[str, str]:
        """The keys as they are set."""
        chosen = self.value if value is None else value
        return {key.format(it=it): text.format(value=chosen) for key, text in self.keys.items()}

    def undoing(self, it: str) -> dict[str, str]:
        """The keys as they are taken back."""
        return {key.format(it=it): "" for key in self.keys}


_OUTLIER: Final = "outlier_detection."
_FAULT: Final = "fault.http."

RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "no-retries",
            "No further tries and no fallback, anywhere: each call reaches one endpoint or fails.",
            {"upstream.use_retry": "0"},
        ),
        Recipe(
            "maintenance",
            "Refuse so many percent of what is routed to a chain (UNAVAILABLE, maintenance mode).",
            {"upstream.maintenance_mode.{it}": "{value}"},
            about="chain",
            value="100",
        ),
        Recipe(
            "limit",
            "At most so many calls at once to a version; more fail at once, without a fallback.",
            {"circuit_breakers.{it}.default.max_requests": "{value}"},
            about="version",
            value="100",
        ),
        Recipe(
            "eject-after",
            "Eject an endpoint after so many failures in a row, instead of 5.",
            {_OUTLIER + "consecutive_gateway_failure": "{value}"},
            value="5",
        ),
        Recipe(
            "eject-for",
            "Eject for so many milliseconds, instead of 30,000. It holds for who is out already too.",
            {_OUTLIER + "base_ejection_time_ms": "{value}", _OUTLIER + "max_ejection_time_ms": "{value}"},
            value="30000",
        ),
        Recipe(
            "no-ejection",
            "Eject nobody any more. Who is out comes back when the time is over.",
            {
                _OUTLIER + "enforcing_consecutive_gateway_failure": "0",
                _OUTLIER + "enforcing_failure_percentage": "0",
            },
        ),
        Recipe(
            "test-faults",
            "Of the aborts and delays of test runs so many percent happen; with 0 they meet none.",
            {_FAULT + "abort.abort_percent": "{value}", _FAULT + "delay.fixed_delay_percent": "{value}"},
            value="0",
        ),
    )
}
