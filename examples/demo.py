"""What a cache saves an agent: three near-identical tasks, cold, then warm, then with the cache reopened from disk.

Run it with `make demo`. Nothing leaves this machine: the model is a stand-in server that speaks OpenAI's wire format,
takes as long as a real model does, and refuses now and then; one of the tools fails the first time it is asked.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support_desk.agent import post_json, run_task
from support_desk.stand_in import StandIn
from support_desk.world import Shop

from agentcache_core import Cache, Computed
from agentcache_core.pricing import book_in_force, cost_of

EFFECTS = Path(__file__).parent / "support_desk" / "effects.toml"
TASKS = (
    "ada@example.org would like to return order A-1001 because the cover is bent. Please open the return.",
    "grace@example.org would like to return order A-1002 because the cover is bent. Please open the return.",
    "edsger@example.org would like to return order A-1003 because it came twice. Please open the return.",
)


@dataclass
class Bill:
    """What one run cost: model calls asked and paid for, tool calls asked and carried out, seconds, micro-dollars."""

    name: str
    asked: int = 0
    paid: int = 0
    tools_asked: int = 0
    tools_run: int = 0
    usd_micros: int = 0
    seconds: float = 0.0


def run(name: str, cache: Cache, stand_in: StandIn, shop: Shop) -> tuple[Bill, list[str]]:
    """Carry out the three tasks once, in a shop of their own, and answer the bill and the agent's answers."""
    bill = Bill(name)
    tools = cache.tools(effects=EFFECTS)
    before = stand_in.calls

    def ask_model(request: dict[str, Any]) -> dict[str, Any]:
        bill.asked += 1

        def ask_for_real() -> Computed:
            started = time.monotonic()
            answer = post_json(f"{stand_in.url}/chat/completions", request)
            cost = cost_of("openai", answer["model"], answer["usage"], seconds=time.monotonic() - started)
            bill.usd_micros += cost.usd_micros
            return Computed(answer, cost=cost)

        return dict(cache.get_or_compute({"provider": "openai", **request}, ask_for_real))

    def call_tool(tool: str, arguments: dict[str, Any]) -> str:
        bill.tools_asked += 1
        return str(tools.call(tool, arguments, lambda: shop.call(tool, arguments)))

    started = time.monotonic()
    answers = []
    with tools.session(name, scope="session"):  # every run has a shop of its own that starts equal
        answers = [run_task(task, ask_model, call_tool) for task in TASKS]
    bill.seconds = time.monotonic() - started
    bill.paid = stand_in.calls - before
    bill.tools_run = sum(shop.executed.values())
    return bill, answers


def table(bills: list[Bill]) -> str:
    """The bills side by side."""
    head = f"{'run':<22}{'model calls':>14}{'paid for':>10}{'tool calls':>12}{'run':>6}{'seconds':>10}{'dollars':>11}"
    rows = [
        f"{b.name:<22}{b.asked:>14}{b.paid:>10}{b.tools_asked:>12}{b.tools_run:>6}{b.seconds:>10.2f}"
        f"{b.usd_micros / 1e6:>11.6f}"
        for b in bills
    ]
    return "\n".join([head, "-" * len(head), *rows])


def main(*, first_token_seconds: float = 0.35, seconds_per_token: float = 0.006, tool_seconds: float = 0.08) -> int:
    """Show the three runs; 1 when a cached run answered differently."""
    with (
        tempfile.TemporaryDirectory() as folder,
        StandIn(first_token_seconds=first_token_seconds, seconds_per_token=seconds_per_token, busy_every=6) as model,
    ):
        url = f"sqlite:///{Path(folder) / 'agent.db'}"
        print(
            f"The agent has {len(TASKS)} tasks. Its model is a stand-in at {model.url}, its cache {Path(url).name}.\n"
        )
        bills, answers = [], []
        with Cache(url) as cache:
            for name in ("cold", "warm"):
                bill, said = run(name, cache, model, Shop(slow_seconds=tool_seconds))
                bills.append(bill)
                answers.append(said)
        with Cache(url) as reopened:
            bill, said = run("reopened from disk", reopened, model, Shop(slow_seconds=tool_seconds))
            bills.append(bill)
            answers.append(said)
            saved = reopened.stats().saved
    print(table(bills), "\n")
    for line in answers[0]:
        print(f"  {line}")
    equal = all(said == answers[0] for said in answers)
    print(f"\nThe answers of all runs are {'identical' if equal else 'DIFFERENT'}.")
    print("Already in the cold run the cache answers what a failed task asks again when it is tried again;")
    print("writes (open_return) always run, in every run.")
    print(f"The reopened cache saved {saved.usd_micros / 1e6:.6f} dollars (prices of {book_in_force().as_of}).")
    return 0 if equal else 1


if __name__ == "__main__":
    quick = "--quick" in sys.argv[1:]  # without the waiting: for the tests
    sys.exit(main(first_token_seconds=0.0, seconds_per_token=0.0, tool_seconds=0.0) if quick else main())
