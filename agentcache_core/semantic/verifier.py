"""A light verifier: a small network over what similarity, words, guards and token vectors say about a pair.

It has no weights of its own; `fit` learns them from labelled pairs of the user's (needs `agentcache[verifier]`), with a
threshold fixed on pairs it was not trained on. From then on numpy is enough. `Afterwards` asks a slow judge (a
cross-encoder, an LLM) behind the caller: the pair is refused now and served from then on, if the judge says so.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentcache_core.errors import ConfigurationError
from agentcache_core.forking import watch
from agentcache_core.semantic.embedder import as_embedder
from agentcache_core.semantic.guards import DEFAULT_GUARDS, GUARDS_VERSION, Pair, compare, judge
from agentcache_core.semantic.guards.pair import soft

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

FORMAT = 1
FOLDS = 3
NETWORKS = 2
VECTOR_SCALE = 8.0
_MEMO = 512


@dataclass(frozen=True, slots=True)
class Afterwards:
    """A judge that is asked in the background: (question, stored question, similarity) -> bool, sync or async. A pair
    it approves is served from then on."""

    judge: Callable[[str, str, float], Any]


class PairVerifier:
    """A fitted verifier, for `Semantic(verifier=…)`: whether two texts mean the same, with probability `threshold`.

    Fit it with `PairVerifier.fit(pairs)`. It belongs to one embedder and one version of the guards. Fitted to enough
    pairs it does what the guards `wording` and `roles` do by rule, so that `guards=FACT_GUARDS` and a lower similarity
    threshold serve more at the same share of errors.
    """

    def __init__(self, embedder: Any, networks: Sequence[Sequence[Rows]], mean: Rows, scale: Rows, threshold: float):
        self.embedder = embedder
        self.threshold = threshold
        self._networks = networks
        self._mean, self._scale = mean, scale
        self._tokens: OrderedDict[str, tuple[Rows, Rows]] = OrderedDict()
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """Nobody holds the lock in a child."""
        self._lock = threading.Lock()

    def __call__(self, question: str, stored: str, similarity: float) -> bool:
        """Whether both mean the same, as far as the fit can tell."""
        return self.probability(question, stored) >= self.threshold

    def probability(self, a: str, b: str) -> float:
        """How likely two texts mean the same."""
        return float(self._predict(self._inputs([(a, b)]))[0])

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """`probability` of many pairs."""
        found: list[float] = []
        for start in range(0, len(pairs), 512):
            found.extend(float(p) for p in self._predict(self._inputs(pairs[start : start + 512])))
        return found

    # Fitting

    @classmethod
    def fit(
        cls,
        pairs: Iterable[tuple[str, str, bool]],
        *,
        embedder: Any = None,
        max_false_hits: float = 0.1,
        seed: int = 0,
    ) -> PairVerifier:
        """Learn from labelled pairs (a, b, same meaning). The threshold is the lowest at which at most `max_false_hits`
        of what would be served is wrong, on pairs each network did not see. Raises `ConfigurationError` for too few."""
        import numpy as np

        listed = list(pairs)
        labels = np.array([same for _, _, same in listed], bool)
        if len(listed) < 100 or labels.all() or not labels.any():
            raise ConfigurationError(
                f"{len(listed)} labelled pairs are too few, or of one kind; some hundred are needed"
            )
        found = cls(as_embedder(embedder), [], np.zeros(0, np.float32), np.ones(0, np.float32), 1.0)
        batches = [listed[start : start + 512] for start in range(0, len(listed), 512)]
        raw = np.concatenate([found._raw([(a, b) for a, b, _ in batch]) for batch in batches])
        lexical = raw[:, : _lexical_size()]
        found._mean, found._scale = lexical.mean(axis=0), lexical.std(axis=0) + 1e-6
        inputs = found._scaled(raw)
        fold = np.array([zlib.crc32(min(a, b).encode("utf-8", "surrogatepass")) % FOLDS for a, b, _ in listed])
        unseen = np.zeros(len(listed), np.float32)
        for number in range(FOLDS):
            if (fold == number).any() and len(set(labels[fold != number].tolist())) == 2:
                networks = [_network(inputs[fold != number], labels[fold != number], seed)]
                unseen[fold == number] = _forward(networks, inputs[fold == number])
        found.threshold = threshold_for(unseen.tolist(), labels.tolist(), max_false_hits)
        found._networks = [_network(inputs, labels, seed + number) for number in range(NETWORKS)]
        return found

    def save(self, path: str | Path) -> None:
        """Write the fit as a numpy archive; it holds numbers, no text."""
        import numpy as np

        arrays: dict[str, Any] = {
            f"network{n}_{k}": layer for n, network in enumerate(self._networks) for k, layer in enumerate(network)
        }
        with Path(path).open("wb") as file:
            np.savez(
                file,
                format=np.int64(FORMAT),
                fingerprint=np.frombuffer(self.embedder.fingerprint.encode(), np.uint8),
                guards=np.frombuffer(GUARDS_VERSION.encode(), np.uint8),
                threshold=np.float64(self.threshold),
                mean=self._mean,
                scale=self._scale,
                **arrays,
            )

    @classmethod
    def load(cls, path: str | Path, *, embedder: Any = None) -> PairVerifier:
        """Read a fit; `ConfigurationError` for another embedder's, other guards', or what is none."""
        import numpy as np

        chosen = as_embedder(embedder)
        try:
            with np.load(path, allow_pickle=False) as held:
                mine = (FORMAT, chosen.fingerprint, GUARDS_VERSION)
                theirs = (
                    int(held["format"]),
                    held["fingerprint"].tobytes().decode(),
                    held["guards"].tobytes().decode(),
                )
                networks: list[list[Rows]] = []
                while f"network{len(networks)}_0" in held:
                    networks.append([held[f"network{len(networks)}_{k}"] for k in range(4)])
                fitted = cls(chosen, networks, held["mean"], held["scale"], float(held["threshold"]))
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{str(path)!r} is no fitted verifier: {error}") from error
        if mine != theirs:
            raise ConfigurationError(
                f"the verifier in {str(path)!r} was fitted for {theirs}, not for {mine}: fit it again"
            )
        return fitted

    # Features

    def _inputs(self, pairs: Sequence[tuple[str, str]]) -> Rows:
        return self._scaled(self._raw(pairs))

    def _scaled(self, raw: Rows) -> Rows:
        import numpy as np

        size = _lexical_size()
        scaled: Rows = np.concatenate(
            [(raw[:, :size] - self._mean) / self._scale, raw[:, size:] * VECTOR_SCALE], axis=1
        )
        return scaled

    def _raw(self, pairs: Sequence[tuple[str, str]]) -> Rows:
        import numpy as np

        known = self._encoded([text for pair in pairs for text in pair])
        rows = []
        for a, b in pairs:
            (u, one), (v, other) = known[a], known[b]
            rows.append(np.concatenate([_lexical(compare(a, b), float(u @ v), one, other), np.abs(u - v), u * v]))
        return np.stack(rows).astype(np.float32)

    def _encoded(self, texts: Sequence[str]) -> dict[str, tuple[Rows, Rows]]:
        """The vector and the token vectors (rows of length 1) of each text, from one pass of the model."""
        import numpy as np

        with self._lock:
            known = {text: self._tokens[text] for text in texts if text in self._tokens}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            given = getattr(self.embedder, "token_vectors", None)
            vectors = np.asarray(self.embedder.embed(missing), np.float32)
            tokens = given(missing) if given is not None else [row[None, :] for row in vectors]
            for text, vector, rows in zip(missing, vectors, tokens, strict=True):
                unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
                known[text] = (vector / max(float(np.linalg.norm(vector)), 1e-9), unit.astype(np.float32))
            with self._lock:
                self._tokens.update((text, known[text]) for text in missing)
                while len(self._tokens) > _MEMO:
                    self._tokens.popitem(last=False)
        return known

    def _predict(self, inputs: Rows) -> Rows:
        return _forward(self._networks, inputs)


def _lexical_size() -> int:
    return 18 + len(DEFAULT_GUARDS)


def _lexical(pair: Pair, cosine: float, one: Rows, other: Rows) -> list[float]:
    """What can be counted about a pair, the same from either side: similarity, best token matches, shared and left-over
    words, lengths, and each guard's veto."""
    scores = one @ other.T
    there, back = scores.max(axis=1), scores.max(axis=0)
    lows = sorted([float(there.min()), float(back.min())])
    means = sorted([float(there.mean()), float(back.mean())])
    left = sorted(sum(not soft(t) for t in side) for side in (pair.only_a, pair.only_b))
    spare = sorted([len(pair.only_a), len(pair.only_b)])
    lengths = sorted([len(pair.a.words), len(pair.b.words)])
    shared = len(pair.a.forms & pair.b.forms) / max(1, len(pair.a.forms | pair.b.forms))
    names = sum(t.capital for t in (*pair.only_a, *pair.only_b))
    worst = [float(sum(sorted(side.tolist())[:3])) / min(3, len(side)) for side in (there, back)]
    counted = [cosine, *lows, *means, *sorted(worst), shared, len(pair.matched), *left, *spare, *lengths]
    counted += [lengths[1] - lengths[0], float(names), float(len(pair.opposed))]
    vetoes = [float(verdict.vetoed) for verdict in judge(pair, DEFAULT_GUARDS).values()]
    return [float(x) for x in counted] + vetoes


def _network(inputs: Rows, labels: Any, seed: int) -> list[Rows]:
    """The layers of one small network: weights and biases of 64 hidden units and of the output."""
    try:
        from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]  # ships no annotations
    except ImportError as error:
        raise ConfigurationError(f"fitting a verifier needs pip install 'agentcache[verifier]' ({error})") from error
    import warnings

    model = MLPClassifier(
        (64,), alpha=0.01, learning_rate_init=5e-4, max_iter=12, batch_size=min(128, len(inputs)), random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopping early is meant: more rounds fit the noise of the labels
        model.fit(inputs, labels)
    (first, second), (bias, last) = model.coefs_, model.intercepts_
    return [layer.astype("float32") for layer in (first, bias, second, last)]


def _forward(networks: Sequence[Sequence[Rows]], inputs: Rows) -> Rows:
    import numpy as np

    answers = []
    for first, bias, second, last in networks:
        hidden = np.maximum(inputs @ first + bias, 0.0)
        answers.append(1.0 / (1.0 + np.exp(-(hidden @ second + last)[:, 0])))
    mean: Rows = np.mean(answers, axis=0)
    return mean


def threshold_for(scores: Sequence[float], same: Sequence[bool], allowed: float) -> float:
    """The lowest score at and above which at most a share `allowed` is wrong; above 1 where there is none."""
    best, wrong = 2.0, 0
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    for count, i in enumerate(order, 1):
        wrong += not same[i]
        if wrong / count <= allowed:
            best = scores[i]
    return best
