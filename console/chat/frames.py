"""The websocket's messages. Whatever a client sends is validated here before anything looks at it."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from console.chat import limits


class FrameError(Exception):
    """A frame that cannot be used. `code` is stable, the message is for people; the socket stays open."""

    def __init__(self, code: str, message: str, *, client_id: UUID | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.client_id = client_id


class _Frame(BaseModel):
    # Lax only where JSON has no type of its own (UUIDs are strings); numbers are not strings.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ask(_Frame):
    type: Literal["ask"]
    client_id: UUID
    conversation: UUID | None = None
    text: Annotated[str, Field(strict=True)]
    route: Annotated[str, Field(strict=True, max_length=100)] | None = None
    route_class: Literal["precise", "fast"] | None = None
    knowledge: Annotated[tuple[UUID, ...], Field(max_length=limits.BASES)] = ()


class Regenerate(_Frame):
    type: Literal["regenerate"]
    client_id: UUID
    conversation: UUID
    answer: UUID
    route_class: Literal["precise", "fast"] | None = None
    without_documents: Annotated[bool, Field(strict=True)] = False


class Stop(_Frame):
    type: Literal["stop"]
    generation: UUID


class Resume(_Frame):
    type: Literal["resume"]
    generation: UUID
    after: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)] = 0


class Ping(_Frame):
    type: Literal["ping"]


Frame = Ask | Regenerate | Stop | Resume | Ping

_adapter: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])


def parse(text: str) -> Frame:
    """One client frame. Raises FrameError."""
    if len(text) > limits.FRAME_CHARACTERS:
        raise FrameError("frame_too_large", _("This message is too large. Shorten it and send it again."))
    try:
        frame = _adapter.validate_json(text)
    except ValidationError as error:
        raise _explained(error) from None
    if isinstance(frame, Ask) and (problem := _problem_with(frame.text)):
        raise FrameError(*problem, client_id=frame.client_id)
    return frame


def _problem_with(text: str) -> tuple[str, str] | None:
    """(code, message) for a text that cannot be asked. JSON cannot carry half a character past pydantic."""
    if not text.strip():
        return "text_empty", _("Write a question first.")
    if len(text.encode("utf-8")) > limits.TEXT_BYTES:
        words = _("The question is longer than %(limit)s bytes. Shorten it.") % {"limit": limits.TEXT_BYTES}
        return "text_too_long", words
    if "\x00" in text:
        return "text_invalid", _("The question holds a zero character. Remove it.")
    return None


def _explained(error: ValidationError) -> FrameError:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(step) for step in problem["loc"])
    if problem["type"] == "json_invalid":
        return FrameError("json_invalid", _("This message is not JSON. Reload the page."))
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return FrameError("type_unknown", _("This kind of message is not known. Reload the page."))
    return FrameError(
        "field_invalid",
        _("The field %(field)s of this message is missing or wrong. Reload the page.")
        % {"field": place or "?"},
    )
