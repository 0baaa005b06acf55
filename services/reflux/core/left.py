"""What a run leaves to people when it ends. It comes up to the run that had begun it, so nothing is lost."""

from dataclasses import dataclass
from typing import Final

from reflux.core.names import StepPath


@dataclass(frozen=True, slots=True)
class Left:
    """Steps, by their paths; below a step that had begun a run as `report/fetch`."""

    unresolved: tuple[StepPath, ...] = ()
    """Nobody knows whether their effect happened."""
    uncompensated: tuple[StepPath, ...] = ()
    """They should have been undone, and surely or perhaps are not."""

    def under(self, step: StepPath) -> "Left":
        """The same, seen from the run whose step had begun this one."""
        above = f"{step}/"
        return Left(
            tuple(StepPath(above + each) for each in self.unresolved),
            tuple(StepPath(above + each) for each in self.uncompensated),
        )

    def __add__(self, other: "Left") -> "Left":
        """Both."""
        return Left(self.unresolved + other.unresolved, self.uncompensated + other.uncompensated)


NOTHING_LEFT: Final = Left()
