"""Embedders: what turns texts into vectors, behind a small protocol, and what checks and remembers their answers.

An embedder takes texts and gives a float32 array of shape (n, dimension), one L2-normalised row per text. Its
`fingerprint` names the model, its weights, pooling and precision: vectors of two fingerprints are never compared.
"""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from agentcache_core.errors import ConfigurationError, EmbedderError
from agentcache_core.forking import watch
from agentcache_core.runtime import Runtime, running_loop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MEMO = 4096
"""How many embeddings are remembered."""


@runtime_checkable
class Embedder(Protocol):
    """What turns texts into vectors.

    `embed` gets at least one text, never an empty one, and answers (or, when it is async, resolves to) a float array
    of shape (len(texts), dimension). `max_tokens` is how much the model reads; `count_tokens` says how much a text
    has; None = any length is read. `languages` are the codes it was trained for; None = not known, all.
    """

    @property
    def fingerprint(self) -> str: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def languages(self) -> frozenset[str] | None: ...
    def embed(self, texts: Sequence[str]) -> Any: ...
    def count_tokens(self, text: str) -> int: ...


class FunctionEmbedder:
    """A user's own function as an embedder: sync or async, from a list of texts to rows of floats.

    `fingerprint` must change whenever the vectors do; by default it is the function's qualified name. `max_tokens` is
    counted by `count_tokens`, by default in words.
    """

    def __init__(
        self,
        function: Callable[[Sequence[str]], Any],
        *,
        fingerprint: str | None = None,
        max_tokens: int | None = None,
        languages: Sequence[str] | None = None,
        count_tokens: Callable[[str], int] | None = None,
    ) -> None:
        name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
        self.function = function
        self.fingerprint = fingerprint or f"function:{name}"
        self.max_tokens = max_tokens
        self.languages = None if languages is None else frozenset(languages)
        self._count = count_tokens

    def embed(self, texts: Sequence[str]) -> Any:
        """The function's answer for these texts."""
        return self.function(texts)

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has, by the function given for it, else its words."""
        return self._count(text) if self._count is not None else len(text.split())


def as_embedder(given: Any) -> Embedder:
    """The embedder that a user meant: an `Embedder`, a function, the name or path of a sentence-transformers model, or
    None for the default model."""
    if given is None or isinstance(given, str):
        from agentcache_core.semantic.models import default_embedder, sentence_transformer

        return default_embedder() if given is None else sentence_transformer(given)
    if isinstance(given, Embedder):
        return given
    if callable(given):
        return FunctionEmbedder(given)
    raise ConfigurationError(
        "embedder must be None, a model's name or path, a function from texts to vectors, or an object with "
        f"fingerprint, max_tokens, languages, embed and count_tokens; got {type(given).__name__}"
    )


class Encoder:
    """An embedder whose answers are checked, normalised and remembered.

    Raises `EmbedderError` for an answer of the wrong shape, for a dimension or dtype that changed, and for vectors that
    are not finite or all zero. Safe to share between threads; a text is embedded twice when two threads ask at once.
    """

    def __init__(self, embedder: Embedder, *, memo: int = MEMO) -> None:
        self.embedder = embedder
        self.fingerprint = embedder.fingerprint
        self.dimension: int | None = None
        self.calls = 0
        self._dtype: Any = None
        self._memo: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._size = memo
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """Nobody holds the lock in a child."""
        self._lock = threading.Lock()

    def fits(self, text: str) -> bool:
        """Whether the model reads the whole text. Two long texts may differ only behind the cut."""
        limit = self.embedder.max_tokens
        if limit is None:
            return True
        if len(text) > limit * 32:
            return False
        if len(text.encode("utf-8", "surrogatepass")) <= limit - 2:  # no token is shorter than a byte
            return True
        return self.embedder.count_tokens(text) <= limit

    async def encode(self, rt: Runtime, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts, a float32 array of shape (len(texts), dimension) with rows of length 1."""
        import numpy as np

        with self._lock:
            known = {text: self._memo[text] for text in texts if text in self._memo}
            for text in known:
                self._memo.move_to_end(text)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            if not all(text.strip() for text in missing):
                raise EmbedderError("an empty text cannot be embedded")
            rows = self._checked(await self._ask(rt, missing), len(missing))
            known.update(zip(missing, rows, strict=True))
            with self._lock:
                self._memo.update(zip(missing, rows, strict=True))
                while len(self._memo) > self._size:
                    self._memo.popitem(last=False)
        return np.stack([known[text] for text in texts])

    async def _ask(self, rt: Runtime, texts: list[str]) -> Any:
        self.calls += 1
        try:
            answer = await rt.offload(lambda: self.embedder.embed(texts))
            if inspect.isawaitable(answer):
                answer = await answer if rt.face == "async" else _resolved(answer)
        except EmbedderError:
            raise
        except Exception as error:
            raise EmbedderError(f"the embedder failed: {type(error).__name__}: {error}") from error
        return answer

    def _checked(self, answer: Any, count: int) -> NDArray[np.float32]:
        import numpy as np

        try:
            rows = np.asarray(answer)
        except ValueError as error:
            raise EmbedderError(f"the embedder answered rows of different lengths: {error}") from error
        if rows.ndim != 2 or rows.shape[0] != count or not rows.shape[1]:
            raise EmbedderError(
                f"the embedder answered shape {rows.shape} for {count} texts; ({count}, dimension) is due"
            )
        if rows.dtype.kind != "f":
            raise EmbedderError(f"the embedder answered dtype {rows.dtype}; float32 is due")
        if self.dimension is None:
            self.dimension, self._dtype = int(rows.shape[1]), rows.dtype
        elif rows.shape[1] != self.dimension:
            raise EmbedderError(f"the embedder's dimension changed from {self.dimension} to {rows.shape[1]}")
        elif rows.dtype != self._dtype:
            raise EmbedderError(f"the embedder's dtype changed from {self._dtype} to {rows.dtype}")
        rows = rows.astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise EmbedderError("the embedder answered a vector with NaN or infinity, or of length 0")
        normalised: NDArray[np.float32] = rows / lengths
        return normalised


def _resolved(answer: Awaitable[Any]) -> Any:
    """An async embedder's answer for a blocking caller: awaited on a loop of its own."""

    import asyncio

    async def wait() -> Any:
        return await answer

    if running_loop() is None:
        return asyncio.run(wait())
    box: list[Any] = []
    thread = threading.Thread(target=lambda: box.append(_outcome(wait)), name="agentcache embedder")
    thread.start()
    thread.join()
    if isinstance(box[0], Exception):
        raise box[0]
    return box[0]


def _outcome(wait: Callable[[], Any]) -> Any:
    import asyncio

    try:
        return asyncio.run(wait())
    except Exception as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
        return error
