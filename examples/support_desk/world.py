"""The bookshop that the agent looks at and changes: customers, orders, policies, and the tools that reach them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any


class ToolTimeout(Exception):
    """The shop's order service did not answer in time; asking again usually helps."""


def fresh_shop() -> dict[str, Any]:
    """A shop as it stands every morning: three customers, three orders, three policies."""
    return {
        "customers": {
            "ada@example.org": {"customer_id": "C-1", "name": "Ada", "tier": "gold"},
            "grace@example.org": {"customer_id": "C-2", "name": "Grace", "tier": "regular"},
            "edsger@example.org": {"customer_id": "C-3", "name": "Edsger", "tier": "regular"},
        },
        "orders": {
            "A-1001": {"customer_id": "C-1", "title": "Sketch of the Analytical Engine", "grams": 410, "days_ago": 9},
            "A-1002": {
                "customer_id": "C-2",
                "title": "A Manual for the Automatic Calculator",
                "grams": 820,
                "days_ago": 12,
            },
            "A-1003": {"customer_id": "C-3", "title": "A Discipline of Programming", "grams": 560, "days_ago": 21},
        },
        "policies": {
            "returns": "Books may be returned within 30 days. Gold members return free of charge, others pay postage.",
            "refunds": "Refunds reach the card within five working days after the book is back.",
            "shipping": "Parcels up to 500 g cost 3.90, up to 1 kg 5.90, above that 9.90.",
        },
        "returns": {},
    }


class Shop:
    """One run's private shop and its tools. `executed` counts the calls that really reached it, by tool name.

    `slow_seconds` is what a look-up takes; `shaky_orders` are orders whose first look-up times out.
    """

    def __init__(self, *, slow_seconds: float = 0.08, shaky_orders: tuple[str, ...] = ("A-1003",)) -> None:
        self._world = fresh_shop()
        self._slow_seconds = slow_seconds
        self._shaky = set(shaky_orders)
        self.executed: Counter[str] = Counter()

    def find_customer(self, email: str) -> dict[str, Any]:
        return dict(self._world["customers"][email])

    def find_order(self, order_id: str) -> dict[str, Any]:
        if order_id in self._shaky:
            self._shaky.discard(order_id)
            raise ToolTimeout(f"the order service did not answer for {order_id}")
        return dict(self._world["orders"][order_id], open_return=self._world["returns"].get(order_id))

    def search_policy(self, topic: str) -> str:
        return str(self._world["policies"][topic])

    def postage(self, grams: int) -> dict[str, float]:
        return {"euros": 3.9 if grams <= 500 else 5.9 if grams <= 1000 else 9.9}

    def open_return(self, order_id: str, reason: str) -> dict[str, str]:
        label = f"R-{order_id[2:]}"
        self._world["returns"][order_id] = {"label": label, "reason": reason}
        return {"label": label}

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Run one tool and answer its result as the JSON text that goes back to the model."""
        tool: Callable[..., Any] = getattr(self, name)
        self.executed[name] += 1
        time.sleep(self._slow_seconds)
        return json.dumps(tool(**arguments))


def _tool(name: str, description: str, **arguments: str) -> dict[str, Any]:
    properties = {argument: {"type": kind} for argument, kind in arguments.items()}
    schema = {"type": "object", "properties": properties, "required": list(arguments), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    _tool("find_customer", "Look up a customer by e-mail address.", email="string"),
    _tool("find_order", "Look up an order by its number.", order_id="string"),
    _tool("search_policy", "The shop's policy on a topic: returns, refunds or shipping.", topic="string"),
    _tool("postage", "What a parcel of a given weight costs.", grams="integer"),
    _tool("open_return", "Open a return and answer its label.", order_id="string", reason="string"),
]
