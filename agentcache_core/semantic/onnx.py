"""all-MiniLM-L6-v2 on ONNX Runtime: the same vectors as with torch, faster for one question, and without torch.

The package holds no ONNX file, so the model is exported once on this machine (torch, onnx and onnxscript are needed for
that only), compared with torch, and kept in a folder by the hash of its weights.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentcache_core.errors import ConfigurationError
from agentcache_core.semantic.models import MINILM_MAX_TOKENS, MINILM_SHA256, minilm_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

AGREEMENT = 1e-4
"""How far a number of an exported model's vectors may lie from torch's."""
_PROBES = (
    "How do I reset my password?",
    "What is the difference between a list and a tuple, and when should one use which of them?",
    "ok",
    "word " * 200,
)


def exported_path() -> Path:
    """Where the exported model is kept: `AGENTCACHE_MODELS`, else the user's cache folder."""
    named = os.environ.get("AGENTCACHE_MODELS")
    cache = os.environ.get("XDG_CACHE_HOME")
    folder = Path(named) if named else (Path(cache) if cache else Path.home() / ".cache") / "agentcache" / "models"
    return folder / f"minilm-{MINILM_SHA256[:32]}-1.onnx"


def can_run() -> bool:
    """Whether an exported model can be run here."""
    return find_spec("onnxruntime") is not None and find_spec("tokenizers") is not None


def can_export() -> bool:
    """Whether the model can be exported here."""
    return all(find_spec(name) is not None for name in ("torch", "transformers", "onnx", "onnxscript"))


def mean_pooled(tokens: Rows, mask: NDArray[np.int64]) -> Rows:
    """The mean of the real tokens of each row, at length 1. tokens: (n, length, dimension); mask: (n, length)."""
    import numpy as np

    weights = mask[:, :, None].astype(np.float32)
    sums = (tokens * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    pooled: Rows = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
    return pooled


class OnnxMiniLM:
    """The exported model with its tokenizer. Raises `ConfigurationError` where it has not been exported."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        try:
            import onnxruntime  # type: ignore[import-untyped]  # ships no annotations
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ConfigurationError(f"pip install 'agentcache[onnx]' ({error})") from error
        if not model.is_file():
            raise ConfigurationError(f"no exported model at {model}; agentcache_core.semantic.onnx.export() makes it")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        # The file asks for padding to a fixed 128 tokens: without this, vectors would be wrong without any error.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def embed(self, texts: Sequence[str]) -> Rows:
        """float32 rows of length 1."""
        import numpy as np

        rows = np.empty((len(texts), 384), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), 32):  # of about one length, so that little is padded
            places = order[start : start + 32]
            tokens, mask = self.tokens([texts[i] for i in places])
            rows[places] = mean_pooled(tokens, mask)
        return rows

    def tokens(self, texts: Sequence[str]) -> tuple[Rows, NDArray[np.int64]]:
        """The token vectors (n, length, 384) of texts and the mask (n, length) of those that are real."""
        import numpy as np

        encoded = [self._cut(found.ids) for found in self._tokenizer.encode_batch(list(texts))]
        length = max(len(ids) for ids in encoded)
        ids = np.zeros((len(texts), length), np.int64)
        mask = np.zeros((len(texts), length), np.int64)
        for row, found in enumerate(encoded):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        (tokens,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return tokens, mask

    def token_vectors(self, texts: Sequence[str]) -> list[Rows]:
        """One float32 array (tokens, 384) for each text, without the special tokens."""
        found: list[Rows] = []
        for start in range(0, len(texts), 32):
            tokens, mask = self.tokens(texts[start : start + 32])
            for rows, real in zip(tokens, mask.sum(axis=1).tolist(), strict=True):
                found.append(rows[1 : real - 1] if real > 2 else rows[:real])
        return found

    def _cut(self, ids: list[int]) -> list[int]:
        return ids if len(ids) <= MINILM_MAX_TOKENS else [*ids[: MINILM_MAX_TOKENS - 1], ids[-1]]

    def count_tokens(self, text: str) -> int:
        """Tokens with the two special ones, uncut."""
        return len(self._tokenizer.encode(text).ids)


def export(target: Path | None = None) -> Path:
    """Export the model once and check it against torch; gives the path. Nothing is done where it exists already."""
    path = target or exported_path()
    if path.is_file():
        return path
    source = minilm_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")  # mode 0600
    os.close(handle)
    part = Path(name)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            model = _export_to(source, part)
        _compare(model, OnnxMiniLM(part, source))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _export_to(source: Path, part: Path) -> Any:
    import torch
    from transformers import AutoModel

    for noisy in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    model = AutoModel.from_pretrained(str(source)).eval()

    class Encoder(torch.nn.Module):
        """Token vectors from ids and mask; segment ids are always 0."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    batch, length = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("length", min=2, max=MINILM_MAX_TOKENS)
    # An example with padding, or the exporter would take the mask for a constant and fold it away.
    ids = torch.arange(1000, 1016).reshape(2, 8)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    shape = {0: batch, 1: length}
    torch.onnx.export(
        Encoder(),
        (ids, mask),
        str(part),
        input_names=["input_ids", "attention_mask"],
        output_names=["tokens"],
        dynamic_shapes={"input_ids": shape, "attention_mask": shape},
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return model


def _compare(model: Any, exported: OnnxMiniLM) -> None:
    """Refuse an export whose vectors are not torch's, alone and in one batch."""
    import numpy as np
    import torch

    for texts in ([_PROBES[0]], list(_PROBES)):
        encoded = [exported._cut(found.ids) for found in exported._tokenizer.encode_batch(texts)]
        expected = []
        for ids in encoded:
            row = torch.tensor([ids])
            with torch.no_grad():
                tokens = model(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state
            expected.append(mean_pooled(tokens.numpy(), np.ones((1, len(ids)), np.int64))[0])
        if not np.allclose(np.stack(expected), exported.embed(texts), atol=AGREEMENT):
            raise ConfigurationError("the exported model does not agree with torch; it was not kept")
