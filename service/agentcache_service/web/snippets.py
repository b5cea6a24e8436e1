"""The code shown to customers: a first set and get in three languages, ready to paste."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snippet:
    """One language's piece of code."""

    id: str
    title: str
    code: str


def snippets(public_url: str, *, key: str | None, namespace: str) -> list[Snippet]:
    """curl, JavaScript and Python, with the caller's address, namespace and (where it is shown) key."""
    shown = key or "ac_YOUR_KEY"
    values = {"__URL__": public_url, "__KEY__": shown, "__NS__": namespace}
    return [Snippet(name, title, _filled(code, values)) for name, title, code in _TEMPLATES]


def _filled(code: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        code = code.replace(name, value)
    return code.strip()


_CURL = """
curl -s __URL__/api/cache/set \\
  -H "X-API-Key: __KEY__" -H "X-Namespace: __NS__" -H "Content-Type: application/json" \\
  -d '{"key": "hello", "value": {"text": "stored once"}, "ttl": 604800}'

curl -s __URL__/api/cache/get \\
  -H "X-API-Key: __KEY__" -H "X-Namespace: __NS__" -H "Content-Type: application/json" \\
  -d '{"key": "hello"}'
"""

_JAVASCRIPT = """
const headers = {
  "X-API-Key": "__KEY__",
  "X-Namespace": "__NS__",
  "Content-Type": "application/json",
};

async function cache(call, body) {
  const answer = await fetch(`__URL__/api/cache/${call}`, {
    method: "POST", headers, body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error((await answer.json()).message);
  return answer.json();
}

await cache("set", { key: "hello", value: { text: "stored once" }, ttl: 604800 });
const found = await cache("get", { key: "hello" });
console.log(found.hit, found.value);
"""

_PYTHON = """
from agentcache_core import Cache

cache = Cache("agentcache+__URL__", namespace="__NS__", api_key="__KEY__")
# A cache never fails your program: trouble is a miss. With durable=True, set raises and says what is wrong.
cache.set("hello", {"text": "stored once"}, ttl="7d", durable=True)
print(cache.get("hello"))
"""

_TEMPLATES = (("curl", "curl", _CURL), ("javascript", "JavaScript", _JAVASCRIPT), ("python", "Python", _PYTHON))
