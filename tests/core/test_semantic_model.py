"""The default model itself: the package's weights, both runtimes, the whole stack with it. Loads the model once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentcache_core import Cache, Semantic
from agentcache_core.errors import ConfigurationError
from agentcache_core.semantic import models, onnx

pytestmark = pytest.mark.model

TEXTS = [
    "The new movie is awesome",
    "The new movie is so great",
    "The cat sits outside",
    "The dog plays in the garden",
    "ok",
    "How do I recover a lost password, step by step, if I no longer have my old phone? " * 4,
]


@pytest.fixture(scope="session")
def torch_model() -> models.SentenceTransformerEmbedder:
    return models.sentence_transformer(str(models.minilm_path()))


@pytest.fixture(scope="session")
def onnx_model() -> onnx.OnnxMiniLM:
    return onnx.OnnxMiniLM(onnx.export(), models.minilm_path())


def test_the_packages_weights_are_the_published_ones(torch_model: models.SentenceTransformerEmbedder) -> None:
    rows = torch_model.embed(TEXTS)
    assert rows.shape == (6, 384)
    assert rows.dtype == np.float32
    assert float(rows[0] @ rows[1]) == pytest.approx(0.8939, abs=1e-3)
    assert float(rows[2] @ rows[3]) == pytest.approx(0.2838, abs=1e-3)
    assert torch_model.fingerprint == models.MiniLM.fingerprint
    assert torch_model.max_tokens == models.MiniLM.max_tokens == 256


def test_both_runtimes_agree_and_padding_changes_nothing(
    torch_model: models.SentenceTransformerEmbedder, onnx_model: onnx.OnnxMiniLM
) -> None:
    together = onnx_model.embed(TEXTS)
    assert np.abs(together - torch_model.embed(TEXTS)).max() < 1e-4
    alone = np.concatenate([onnx_model.embed([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    assert [onnx_model.count_tokens(text) for text in TEXTS] == [torch_model.count_tokens(text) for text in TEXTS]


def test_the_exported_model_runs_without_torch(onnx_model: onnx.OnnxMiniLM) -> None:
    program = (
        "import sys\n"
        "from agentcache_core.semantic.models import default_embedder\n"
        "model = default_embedder()\n"
        "print(model.embed(['hello']).shape, model.runtime, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(1, 384) onnxruntime False"


def test_changed_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ConfigurationError, match="not all-MiniLM-L6-v2"):
        models.minilm_path()


def test_an_unknown_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no sentence-transformers model"):
        Semantic(embedder=str(tmp_path / "nothing"))


def test_the_whole_stack_with_the_default_model(onnx_model: onnx.OnnxMiniLM, tmp_path: Path) -> None:
    def ask(text: str) -> dict[str, Any]:
        return {"provider": "openai", "model": "gpt-5", "messages": [{"role": "user", "content": text}]}

    with Cache(f"sqlite:///{tmp_path}/agent.db", semantic=Semantic(threshold=0.95), background=False) as cache:
        cache.set(ask("How do I enable dark mode?"), "Settings, Display, Dark")
        hit = cache.lookup(ask("How can I enable dark mode?"))
        assert hit is not None
        assert hit.how == "semantic"
        assert hit.similarity is not None
        assert hit.similarity > 0.95
        assert cache.lookup(ask("How do I disable dark mode?")) is None
        assert cache.lookup(ask("Wie schalte ich den dunklen Modus ein?")) is None
        assert cache.lookup(ask("word " * 400)) is None
        assert cache.stats().further["semantic"]["steps"]["bypass"] == 1
