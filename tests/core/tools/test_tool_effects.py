"""Declared effects: what a file may say, and which resources its templates name."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentcache_core.errors import ConfigurationError
from agentcache_core.tools import Never, Pure, Read, Write, load_effects
from agentcache_core.tools.effects import expand

AIRLINE = Path(__file__).resolve().parents[3] / "examples" / "airline-effects.toml"


def test_a_file_declares_every_kind_of_effect() -> None:
    effects = load_effects(AIRLINE)
    assert isinstance(effects["calculate"], Pure)
    assert isinstance(effects["get_user_details"], Read)
    assert isinstance(effects["cancel_reservation"], Write)
    assert load_effects({"tools": {"now": {"effect": "never"}}}) == {"now": Never()}


def test_a_read_names_its_resources_from_its_arguments() -> None:
    read = load_effects(AIRLINE)["get_user_details"]
    assert isinstance(read, Read)
    assert read.reads is not None
    assert list(read.reads({"user_id": "mia_li_3668"})) == ["user:mia_li_3668"]


@pytest.mark.parametrize(
    ("template", "arguments", "resources"),
    [
        ("flights", {}, ["flights"]),
        ("user:{id}", {"id": 7}, ["user:7"]),
        ("user:{who.id}", {"who": {"id": "a"}}, ["user:a"]),
        ("flight:{legs.*.no}", {"legs": [{"no": "X1"}, {"no": "X2"}]}, ["flight:X1", "flight:X2"]),
        ("{a}/{b}", {"a": "1", "b": "2"}, ["1/2"]),
        ("flight:{legs.*.no}", {"legs": []}, []),
    ],
)
def test_a_template_names_resources(template: str, arguments: dict[str, object], resources: list[str]) -> None:
    assert expand(template, arguments) == resources


@pytest.mark.parametrize(
    ("template", "arguments"),
    [
        ("user:{id}", {}),
        ("user:{id}", {"id": None}),
        ("user:{id}", {"id": True}),
        ("user:{id}", {"id": {"nested": 1}}),
        ("user:{id.__class__}", {"id": "x"}),
        ("user:{ids.*}", {"ids": "text"}),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error_and_never_an_attribute(
    template: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(KeyError):
        expand(template, arguments)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x = 1", "declares no tools"),
        ("[tools.a]\neffect = 'reed'", r"\[tools.a\]: effect must be"),
        ("[tools.a]\neffect = 'read'\nread = ['x']", "unknown field 'read'; did you mean 'reads'"),
        ("[tools.a]\neffect = 'write'\nttl = '1m'", "unknown field 'ttl'"),
        ("[tools.a]\neffect = 'read'\nreads = 'x'", "must be a list of strings"),
        ("[tools.a]\neffect = 'read'\nreads = ['x{']", "unbalanced braces"),
        ("[tools.a]\neffect = 'read'\ncoherent = 'yes'", "coherent must be true or false"),
        ("[tools.a]\neffect = 'read'\nsecret = 'token'", "secret must be a list"),
        ("[tools.a]\neffect = 'read'\nttl = 'soon'", "ttl"),
        ("[tools", "not valid TOML"),
    ],
)
def test_a_wrong_declaration_says_where_and_what(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "effects.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=named):
        load_effects(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        load_effects(tmp_path / "absent.toml")
