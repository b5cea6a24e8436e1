"""When questions repeat and documents change, what do caches of a RAG application save at how many stale answers?

Real questions (QQP) are asked again and again, the popular ones most; each is answered from the few documents that its
words point to, and now and then a document changes. An answer is wrong when it was made from a version that is no more.
The question alone is the key, so that a hit also saves the retrieval; the last rows put the documents into the prompt,
which is always right and asks anew for every question a change touches. Seconds assume `SECONDS` a call.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from agentcache_core import MISSING, Cache
from agentcache_core.pricing import cost_of
from benchmarks.harness import Report, Row, Settings
from benchmarks.workload import data_folder

FILE = "semantic/qqp.jsonl.gz"
QUESTIONS, DOCUMENTS, ASKED, CHANGE_EVERY, SECONDS = 2000, 200, 20_000, 200, 1.2
PROVIDER, MODEL = "openai", "gpt-4o"
DOCUMENT_CHARS = 2000

Ask = Callable[[str, list[int], Callable[[], str]], str]
Change = Callable[[int], None]


def questions_in(path: Path, count: int) -> list[str]:
    """The first distinct questions of the pairs."""
    seen: dict[str, None] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            seen.setdefault(json.loads(line)["a"])
            if len(seen) == count:
                break
    return list(seen)


def documents_of(question: str) -> list[int]:
    """The documents that retrieval finds for a question: two, by its words."""
    words = sorted(question.lower().split(), key=len)[-2:]
    return sorted({zlib.crc32(word.encode()) % DOCUMENTS for word in words})


def stream(questions: list[str], *, asked: int, seed: int) -> Iterator[tuple[str, str | int]]:
    """("ask", question) and ("change", document), questions by a power law."""
    random_ = random.Random(seed)
    for number in range(asked):
        if number % CHANGE_EVERY == CHANGE_EVERY - 1:
            yield "change", random_.randrange(DOCUMENTS)
        yield "ask", questions[min(int(random_.paretovariate(0.7)) - 1, len(questions) - 1)]


def judge(questions: list[str], asked: int, ask: Ask, change: Change) -> tuple[int, int, int, int]:
    """(asked, hits, wrong, micro-dollars saved)."""
    versions = [0] * DOCUMENTS
    hits = wrong = saved = count = 0
    for kind, what in stream(questions, asked=asked, seed=1):
        if kind == "change":
            versions[int(what)] += 1
            change(int(what))
            continue
        question = str(what)
        documents = documents_of(question)
        truth = f"{question} from {[(document, versions[document]) for document in documents]}"
        ran: list[bool] = []
        answer = ask(question, documents, lambda ran=ran, truth=truth: ran.append(True) or truth)  # type: ignore[misc]
        count += 1
        wrong += answer != truth
        if not ran:
            hits += 1
            tokens = (len(question) + DOCUMENT_CHARS * len(documents)) // 4
            usage = {"prompt_tokens": tokens, "completion_tokens": 150}
            saved += cost_of(PROVIDER, MODEL, usage).usd_micros
    return count, hits, wrong, saved


def request_of(question: str) -> dict[str, Any]:
    return {"provider": PROVIDER, "model": MODEL, "messages": [{"role": "user", "content": question}]}


def with_tags(cache: Cache) -> tuple[Ask, Change]:
    """Documents as tags: a change drops what was made from it."""

    def ask(question: str, documents: list[int], compute: Callable[[], str]) -> str:
        tags = [f"doc:{document}" for document in documents]
        answer: str = cache.get_or_compute(request_of(question), compute, tags=tags)
        return answer

    return ask, lambda document: cache.invalidate(tag=f"doc:{document}") and None


def with_documents_in_the_prompt(cache: Cache) -> tuple[Ask, Change]:
    """The retrieved text as part of the prompt, and so of the key."""
    versions = [0] * DOCUMENTS

    def ask(question: str, documents: list[int], compute: Callable[[], str]) -> str:
        context = " ".join(f"document {document} version {versions[document]}" for document in documents)
        request = request_of(f"{context}\n{question}")
        found = cache.get(request)
        if found is MISSING:
            found = compute()
            cache.set(request, found)
        return str(found)

    def change(document: int) -> None:
        versions[document] += 1

    return ask, change


def litellms() -> tuple[Ask, Change]:
    """LiteLLM's own key over the question; it has no way to say that a document changed."""
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()):
        from litellm.caching.caching import Cache as LiteLLMCache
        from litellm.types.caching import LiteLLMCacheType
    keys = LiteLLMCache(type=LiteLLMCacheType.LOCAL)
    stored: dict[str, str] = {}

    def ask(question: str, documents: list[int], compute: Callable[[], str]) -> str:
        key = keys.get_cache_key(model=MODEL, messages=request_of(question)["messages"])
        if key not in stored:
            stored[key] = compute()
        return stored[key]

    return ask, lambda document: None


def gptcaches() -> tuple[Ask, Change]:
    """GPTCache's map cache under the text of the last message, its default key; likewise without invalidation."""
    from gptcache.manager.factory import get_data_manager
    from gptcache.processor.pre import last_content

    stored = get_data_manager()

    def ask(question: str, documents: list[int], compute: Callable[[], str]) -> str:
        key = last_content(request_of(question))
        found = stored.search(key)
        if not found:
            answer = compute()
            stored.save(key, answer, key)
            return answer
        return str(found[0][1] if isinstance(found[0], tuple | list) else found[0])

    return ask, lambda document: None


def run(settings: Settings) -> Report:
    folder = data_folder()
    path = None if folder is None else folder / FILE
    question = (__doc__ or "").splitlines()[0]
    if path is None or not path.exists():
        reason = f"{FILE} is not here; name its folder in AGENTCACHE_BENCH_DATA"
        return Report(question, "%", (Row("nothing measured", 0.0, note=reason),), left_out={"everything": reason})
    questions, asked = questions_in(path, QUESTIONS), ASKED // 20 if settings.small else ASKED
    rows: list[Row] = []
    left_out: dict[str, str] = {}

    def tell(name: str, application: tuple[Ask, Change]) -> None:
        count, hits, wrong, saved = judge(questions, asked, *application)
        note = f"{hits} of {count} calls, {hits * SECONDS:,.0f} s and {saved / 1e6:,.2f} dollars saved"
        rows.append(Row(f"{name}: answered", 100 * hits / count, note=note))
        rows.append(Row(f"{name}: stale, of those answered", 100 * wrong / hits if hits else 0.0, note=str(wrong)))

    for name, build in (
        ("agentcache, documents as tags", with_tags),
        ("agentcache, documents in the prompt", with_documents_in_the_prompt),
    ):
        with Cache("memory://?max_bytes=1GB", background=False, maintenance="manual") as cache:
            tell(name, build(cache))
    for name, peer in (("LiteLLM", litellms), ("GPTCache", gptcaches)):
        try:
            tell(name, peer())
        except ImportError as error:
            left_out[name] = f"not installed: {error.name}"
    extra = {"asked": asked, "documents": DOCUMENTS, "a change every": CHANGE_EVERY, "seconds a call": SECONDS}
    return Report(question, "%", tuple(rows), (), left_out, extra)
