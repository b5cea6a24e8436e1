"""An agent with tools: it looks up a customer and an order, checks the policy, and opens a return."""

import json

from openai import OpenAI
from support_desk.world import TOOLS, Shop

from agentcache_adapters.openai import cached
from agentcache_core import Cache

TASK = "grace@example.org would like to return order A-1002 because the cover is bent. Please open the return."
INSTRUCTIONS = "You are the returns desk of a bookshop. Open a return only if the policy allows it."


def main() -> None:
    client = cached(OpenAI(), Cache("sqlite:///agent.db"))
    shop = Shop(slow_seconds=0.0)
    messages = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": TASK}]
    while True:
        answer = client.chat.completions.create(model="gpt-5-mini", messages=messages, tools=TOOLS)
        message = answer.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            result = shop.call(call.function.name, json.loads(call.function.arguments))
            print(f"{call.function.name}({call.function.arguments}) -> {result}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    print(message.content)


if __name__ == "__main__":
    main()
