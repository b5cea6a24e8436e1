"""GPTCache on the same pairs with the same vectors, where it is installed, at its default threshold."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentcache_core.runtime import BLOCKING, drive
from agentcache_core.semantic import Encoder
from benchmarks.harness import Row
from benchmarks.quality._pairs import Scored


def gptcache_served(scored: Sequence[Scored], encoder: Encoder, left_out: dict[str, str]) -> list[Row]:
    """How much of what means something else, and of the duplicates, GPTCache serves when each `a` is stored and each
    `b` asked, counting only answers that belong to the pair."""
    try:
        from gptcache import Cache, Config
        from gptcache.adapter.api import get, put
        from gptcache.manager import CacheBase, VectorBase, get_data_manager
        from gptcache.processor.pre import get_prompt
        from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation
    except ImportError as error:
        left_out["GPTCache"] = f"not installed: {error.name}"
        return []

    def embed(text: str, **_: Any) -> Any:
        return drive(encoder.encode(BLOCKING, [text]))[0]

    folder = tempfile.mkdtemp(prefix="gptcache-")
    atexit.register(shutil.rmtree, folder, True)  # before GPTCache's own hook, which writes there at the very end
    dimension = len(embed("dimension"))
    store = CacheBase("sqlite", sql_url=f"sqlite:///{folder}/gptcache.db")
    vectors = VectorBase("faiss", dimension=dimension, index_path=str(Path(folder) / "faiss.index"))
    cache = Cache()
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=embed,
        data_manager=get_data_manager(store, vectors),
        similarity_evaluation=SearchDistanceEvaluation(),
        config=Config(),
    )
    for number, one in enumerate(scored):
        put(one.pair.a, str(number), cache_obj=cache)
    served = [get(one.pair.b, cache_obj=cache) == str(number) for number, one in enumerate(scored)]
    rows = []
    for what, same in (("different served", False), ("recall", True)):
        counted = [hit for hit, one in zip(served, scored, strict=True) if one.pair.same is same]
        value = 100.0 * sum(counted) / len(counted) if counted else 0.0
        rows.append(Row(f"near pairs, {what}: GPTCache, its default", value, note=f"{len(counted)} pairs in one cache"))
    return rows
