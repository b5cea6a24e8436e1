"""Shapes many routes share: bodies that refuse unknown fields, the plain yes, and what is said of answers by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentcache_service.errors import ErrorBody

Said = dict[int | str, dict[str, Any]]
_LONE = re.compile("[\ud800-\udfff]")
Number = Annotated[float, Field(strict=True)]
"""A JSON number; "60" and true are none."""
Whole = Annotated[int, Field(strict=True)]
"""A whole JSON number."""


class Body(BaseModel):
    """A request body: an unknown field is an error, because it is usually a misspelt one."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)

    @model_validator(mode="after")
    def _storable_texts(self) -> Self:
        """Refuse texts with a NUL, which PostgreSQL cannot hold, or a lone surrogate, which UTF-8 cannot. A field of
        any type is content and not looked into."""
        for name in self.model_fields_set & type(self).model_fields.keys():
            if type(self).model_fields[name].annotation is Any:
                continue
            value = getattr(self, name)
            texts = value if isinstance(value, list) else [value]
            for text in texts:
                if isinstance(text, str) and "\0" in text:
                    raise ValueError(f"{name} holds a NUL character")
                if isinstance(text, str) and not text.isascii() and _LONE.search(text):
                    raise ValueError(f"{name} holds a lone surrogate")
        return self


class Done(BaseModel):
    """It was done."""

    success: bool = Field(default=True, description="always true")


class Message(Done):
    """It was done, with a sentence for people."""

    message: str


UPSTREAM: Said = {
    502: {"model": ErrorBody, "description": "Somebody else's server did not answer, or not acceptably."},
    503: {"model": ErrorBody, "description": "What is needed for this is not set up or cannot be had now."},
}
"""What a route may answer that asks another server on the caller's behalf."""


def bytes_of(media_type: str, *, description: str, status: int = 200) -> Said:
    """An answer whose body is no JSON, said for the OpenAPI document."""
    schema = {"type": "string", "format": "binary"}
    return {status: {"description": description, "content": {media_type: {"schema": schema}}}}


_BYTES = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
DOWNLOAD: Said = {
    200: {"description": "The content.", "content": _BYTES},
    206: {"description": "The part that `Range` asked for.", "content": _BYTES},
    304: {"description": "Unchanged, as `If-None-Match` supposed."},
    416: {"description": "The content has no such part."},
}
"""What a download may answer."""


def json_body(model: type[BaseModel], *, headers: Mapping[str, str]) -> dict[str, Any]:
    """The body and headers of a signed call, which is read as it came, said for the OpenAPI document."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "parameters": [
            {"name": name, "in": "header", "required": False, "description": said, "schema": {"type": "string"}}
            for name, said in headers.items()
        ],
    }


def leads_to(description: str, status: int = 303) -> Said:
    """An answer that leads to another address, said for the OpenAPI document."""
    location = {"Location": {"description": description, "schema": {"type": "string"}}}
    return {status: {"description": description, "headers": location}}
