"""`python -m tests.examples.demo [DATA_DIR]`: the stories, in order, over one stack."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.panel import Panel

from tests.examples.demo import canary, delivery, failover, kill
from tests.examples.demo.screen import console
from tests.support.ledger import running_ledger
from tests.support.provider import Provider, environment_of, running_provider
from tests.support.stack import Stack, running_stack


def main(data: Path) -> None:
    """Shows it all; a promise that does not hold ends it with an error."""
    begun = time.monotonic()
    console.print(Panel("REFLUX: durable flows whose steps are gRPC services behind Envoy", expand=False))
    with running_ledger() as ledger, asking_stack(data) as (stack, openai):
        delivery.show(stack, ledger)
        failover.show(stack.rest, stack.state["urls"]["admin"], openai)
        canary.show(stack, ledger)
        kill.show(stack, ledger)
    console.print(f"[bold green]Everything held.[/] {time.monotonic() - begun:.0f} s in all.")


@contextmanager
def asking_stack(data: Path) -> Iterator[tuple[Stack, Provider]]:
    """A stack whose ai.chat has providers to ask, and the one behind ai.chat@openai, a process of its own."""
    with running_provider() as openai, running_provider() as others:
        environment = environment_of(openai=openai, anthropic=others, local=others)
        with running_stack(data, environment=environment, quiet=False) as stack:
            yield stack, openai


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".reflux/demo").absolute())
