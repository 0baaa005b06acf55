"""`python -m tests.examples.demo [DATA_DIR]`: the stories, in order, over one stack."""

import sys
import time
from pathlib import Path

from rich.panel import Panel

from tests.examples.demo import canary, delivery, kill
from tests.examples.demo.screen import console
from tests.support.ledger import running_ledger
from tests.support.stack import running_stack


def main(data: Path) -> None:
    """Shows it all; a promise that does not hold ends it with an error."""
    begun = time.monotonic()
    console.print(Panel("REFLUX: durable flows whose steps are gRPC services behind Envoy", expand=False))
    with running_ledger() as ledger, running_stack(data, quiet=False) as stack:
        delivery.show(stack, ledger)
        canary.show(stack, ledger)
        kill.show(stack, ledger)
    console.print(f"[bold green]Everything held.[/] {time.monotonic() - begun:.0f} s in all.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".reflux/demo").absolute())
