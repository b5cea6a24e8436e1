"""The memory tier keeps to its bounds while many threads write to it."""

from __future__ import annotations

import threading

import pytest

from agentcache_core import Cache


@pytest.mark.parametrize(
    ("url", "bytes_allowed", "entries_allowed"),
    [
        ("memory://?max_bytes=200KB", 200_000, None),
        ("memory://?max_bytes=100MB&max_entries=50", None, 50),
        ("memory://?max_bytes=100KB&max_entries=1000", 100_000, 1000),
    ],
)
def test_both_bounds_are_honoured_under_load(url: str, bytes_allowed: int | None, entries_allowed: int | None) -> None:
    beyond: list[tuple[int | None, int | None]] = []
    with Cache(url) as cache:

        def write(writer: int) -> None:
            for number in range(200):
                cache.set(f"{writer}:{number}", {"text": "x" * (number * 7 % 2000)})
                cache.get(f"{writer}:{number // 2}")
                tier = cache.stats().tiers[0]
                # A writer may be seen between adding its entry and evicting for it, so each thread may be one ahead.
                if (
                    bytes_allowed is not None
                    and tier.size_bytes is not None
                    and tier.size_bytes > bytes_allowed + 8 * 4096
                ):
                    beyond.append((tier.size_bytes, tier.entries))
                if entries_allowed is not None and tier.entries is not None and tier.entries > entries_allowed + 8:
                    beyond.append((tier.size_bytes, tier.entries))

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tier = cache.stats().tiers[0]
        assert beyond == []
        assert tier.evictions > 0
        assert bytes_allowed is None or (tier.size_bytes or 0) <= bytes_allowed
        assert entries_allowed is None or (tier.entries or 0) <= entries_allowed
