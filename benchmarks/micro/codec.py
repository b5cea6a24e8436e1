"""What does it cost to write and read an answer in its frame, and how small does it get?"""

from __future__ import annotations

import gzip
import random
import re
from typing import Any

import orjson

from agentcache_core.codec.compress import compress
from agentcache_core.codec.dictionary import DictionarySet, train
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.codec.serialize import dumps, loads
from agentcache_core.store.entries import EntryRecord, decode_entry, encode_entry
from benchmarks.harness import Goal, Report, Row, Settings, nanoseconds_per_call
from benchmarks.workload import chat_response, data_folder

MAX_SIZE = 1 << 24
FLOOR = "orjson.loads of the same answer"


def answers(settings: Settings) -> tuple[list[Any], str]:
    """Real responses where the measured data are at hand, else variants of one, and why."""
    folder = data_folder()
    path = None if folder is None or settings.small else folder / "llm_responses.jsonl.gz"
    if path is not None and path.exists():
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [orjson.loads(line) for line in lines], ""
    draw = random.Random(1)
    words = sorted(set(re.findall(r"[a-z]+", orjson.dumps(chat_response()).decode())))
    texts = (" ".join(draw.choices(words, k=draw.randrange(20, 200))) for _ in range(200 if settings.small else 1500))
    made = [{**chat_response(), "id": f"{draw.getrandbits(100):x}", "text": text} for text in texts]
    return made, "no llm_responses.jsonl.gz: set AGENTCACHE_BENCH_DATA" if path is None else f"no {path}"


def run(settings: Settings) -> Report:
    documents, missing = answers(settings)
    payloads = [dumps(document) for document in documents]
    random.Random(2).shuffle(payloads)
    cut = len(payloads) * 2 // 3
    learned, unseen = payloads[:cut], payloads[cut:]
    trained = train(learned)
    held = DictionarySet()
    if trained is not None:
        held.add(trained.number, "chat", trained.content, 0.0)
    current = held.current("chat")
    raw = sum(map(len, unseen))
    plain = sum(len(compress(payload) or payload) for payload in unseen)
    small = sum(len(compress(payload, None if current is None else current[1]) or payload) for payload in unseen)

    typical = sorted(payloads, key=len)[len(payloads) // 2]
    record = EntryRecord("chat", 1.0, typical, stale_at=2.0, expires_at=2.0, lineage=b"l" * 16, seq=1)
    ways = {"no compression": Pipeline(compression=None), "zstd": Pipeline(), "dictionary": Pipeline(dictionaries=held)}
    frames = {name: encode_entry(record, pipeline) for name, pipeline in ways.items()}
    as_json = orjson.dumps(loads(typical))
    contenders: dict[str, Any] = {
        FLOOR: lambda: orjson.loads(as_json),
        "value from payload": lambda: loads(typical),
        "payload from value": lambda value=loads(typical): dumps(value),
    }
    for name, pipeline in ways.items():
        contenders[f"write a frame, {name}"] = lambda pipeline=pipeline: encode_entry(record, pipeline)
        contenders[f"read a frame, {name}"] = lambda pipeline=pipeline, sealed=frames[name]: decode_entry(
            sealed, pipeline, max_size=MAX_SIZE
        )
    times = nanoseconds_per_call(contenders, settings, loops=2000)
    rows = tuple(Row(name, value, value / times[FLOOR]) for name, value in times.items())
    sizes = {
        "documents": len(payloads),
        "bytes_of_the_typical": len(typical),
        "smaller_by_zstd": round(raw / plain, 3),
        "smaller_by_zstd_with_dictionary": round(raw / small, 3),
        "dictionary_bytes": 0 if trained is None else len(trained.content),
    }
    left_out = {"real responses": missing} if missing else {}
    goals = (Goal("value from payload", FLOOR, 1.2),)
    return Report(__doc__ or "", "ns", rows, goals, left_out, sizes)
