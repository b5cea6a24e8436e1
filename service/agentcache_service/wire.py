"""Shapes many routes share: bodies that refuse unknown fields, and the plain yes."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Body(BaseModel):
    """A request body: an unknown field is an error, because it is usually a misspelt one."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)

    @model_validator(mode="after")
    def _without_nul(self) -> Self:
        """Refuse texts with a NUL, which PostgreSQL cannot hold. A field of any type is content and not looked into."""
        for name in self.model_fields_set & type(self).model_fields.keys():
            if type(self).model_fields[name].annotation is Any:
                continue
            value = getattr(self, name)
            texts = value if isinstance(value, list) else [value]
            if any(isinstance(text, str) and "\0" in text for text in texts):
                raise ValueError(f"{name} holds a NUL character")
        return self


class Done(BaseModel):
    """It was done."""

    success: bool = Field(default=True, description="always true")


class Message(Done):
    """It was done, with a sentence for people."""

    message: str
