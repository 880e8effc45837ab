"""What a client may say on the websocket, and what it is told when it says something else."""

from __future__ import annotations

import json
import uuid

import pytest

from console.chat import frames, limits

ID = "0198f3a0-0000-7000-8000-000000000000"
ASK = {"type": "ask", "client_id": ID, "conversation": None, "text": "Hello", "route": None}


def text_of(size: int) -> str:
    """An `ask` frame with that many bytes of text."""
    return json.dumps({**ASK, "text": "x" * size})


@pytest.mark.parametrize(
    "frame",
    [
        ASK,
        {**ASK, "conversation": ID, "route": "smollm2-135m-instruct"},
        {"type": "ask", "client_id": ID, "text": "河"},
        {"type": "regenerate", "client_id": ID, "conversation": ID, "answer": ID},
        {"type": "stop", "generation": ID},
        {"type": "resume", "generation": ID, "after": 0},
        {"type": "ping"},
    ],
)
def test_every_kind_of_frame_is_understood(frame: dict) -> None:
    assert frames.parse(json.dumps(frame)).type == frame["type"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "json_invalid"),
        ("{", "json_invalid"),
        ("\x00", "json_invalid"),
        ('{"type":"ask","text":"\\ud800"}', "json_invalid"),
        ("null", "field_invalid"),
        ("[]", "field_invalid"),
        ('"ask"', "field_invalid"),
        ("{}", "type_unknown"),
        ('{"type":"quit"}', "type_unknown"),
        ('{"type":7}', "type_unknown"),
        ('{"type":null}', "type_unknown"),
        ("[" * 100_000, "json_invalid"),
        (json.dumps({**ASK, "text": 5}), "field_invalid"),
        (json.dumps({**ASK, "text": None}), "field_invalid"),
        (json.dumps({**ASK, "text": ["Hello"]}), "field_invalid"),
        (json.dumps({**ASK, "client_id": "me"}), "field_invalid"),
        (json.dumps({**ASK, "client_id": 1}), "field_invalid"),
        (json.dumps({**ASK, "conversation": "../etc"}), "field_invalid"),
        (json.dumps({**ASK, "route": {"name": "x"}}), "field_invalid"),
        (json.dumps({**ASK, "extra": 1}), "field_invalid"),
        (json.dumps({"type": "resume", "generation": ID, "after": -1}), "field_invalid"),
        (json.dumps({"type": "resume", "generation": ID, "after": "0"}), "field_invalid"),
        (json.dumps({"type": "resume", "generation": ID, "after": 1.5}), "field_invalid"),
        (json.dumps({"type": "resume", "generation": ID, "after": True}), "field_invalid"),
        (json.dumps({"type": "stop"}), "field_invalid"),
        (json.dumps({**ASK, "text": ""}), "text_empty"),
        (json.dumps({**ASK, "text": " \n\t\u3000 "}), "text_empty"),
        (json.dumps({**ASK, "text": "a\x00b"}), "text_invalid"),
        (text_of(limits.TEXT_BYTES + 1), "text_too_long"),
        (json.dumps({**ASK, "text": "河" * (limits.TEXT_BYTES // 3 + 1)}), "text_too_long"),
        (text_of(limits.FRAME_CHARACTERS), "frame_too_large"),
    ],
)
def test_anything_else_is_a_typed_error(text: str, code: str) -> None:
    with pytest.raises(frames.FrameError) as caught:
        frames.parse(text)
    assert caught.value.code == code
    assert caught.value.message


def test_the_longest_question_fits_in_a_frame_however_it_is_written() -> None:
    longest = "河" * (limits.TEXT_BYTES // 3)
    escaped = json.dumps({**ASK, "text": longest}, ensure_ascii=True)
    frame = frames.parse(escaped)
    assert isinstance(frame, frames.Ask)
    assert frame.text == longest


def test_an_unusable_question_is_told_by_its_client_id() -> None:
    with pytest.raises(frames.FrameError) as caught:
        frames.parse(json.dumps({**ASK, "text": " "}))
    assert caught.value.client_id == uuid.UUID(ID)
