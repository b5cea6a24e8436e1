"""Shapes many routes share: bodies that refuse unknown fields, and the plain yes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """A request body: an unknown field is an error, because it is usually a misspelt one."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Done(BaseModel):
    """It was done."""

    success: bool = Field(default=True, description="always true")


class Message(Done):
    """It was done, with a sentence for people."""

    message: str
