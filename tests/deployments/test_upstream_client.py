"""What a server that is not ours is sent: no tenant, no field that it would refuse, no redirect followed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from inference.client import Delta, InferenceClient, InferenceUnavailable, Software, close_pool
from inference.deployments.looks import Look, look_at_all

METRICS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
"""
MODELS = json.dumps({"data": [{"id": "m", "max_model_len": 4096}, {"id": 7}, "x"]})
ANSWER = 'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
WHOLE = {"model": "m", "messages": [], "max_tokens": 3, "top_k": 5, "min_p": 0.1, "ignore_eos": True}


class Theirs:
    """A server that answers as it is told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, str]] = {
            "/v1/models": (200, MODELS),
            "/v1/chat/completions": (200, ANSWER),
        }
        self.sent: list[tuple[str, dict[str, str], Any]] = []
        theirs = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                theirs.sent.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, text = theirs.pages.get(self.path, (404, ""))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", text)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def theirs() -> Iterator[Theirs]:
    server = Theirs()
    yield server
    server.close()


def look(server: Theirs, key: str = "sk-1") -> Look:
    return look_at_all({1: InferenceClient(server.url, key, Software.OTHER)})[1]


def heard(client: InferenceClient, **facts: Any) -> str:
    async def run() -> str:
        try:
            items = [item async for item in client.stream_chat(WHOLE, request_id="r", tenant="t", **facts)]
            return "".join(item.text for item in items if isinstance(item, Delta))
        finally:
            await close_pool()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("software", "kept", "headers"),
    [
        (Software.OTHER, {"model", "messages", "max_tokens"}, set()),
        (Software.VLLM, {*WHOLE, "cache_salt"}, set()),
        (Software.CUSTOS, {*WHOLE}, {"x-custos-tenant", "x-custos-priority"}),
    ],
)
def test_each_is_sent_what_it_understands(
    theirs: Theirs, software: Software, kept: set[str], headers: set[str]
) -> None:
    assert heard(InferenceClient(theirs.url, "sk-1", software), priority=2) == "Hi"
    ((_path, got, body),) = theirs.sent
    assert set(body) - {"stream", "stream_options"} == kept
    assert {name for name in got if name.startswith("x-custos")} == headers
    assert got["authorization"] == "Bearer sk-1" and got["x-request-id"] == "r"
    if software == Software.VLLM:
        assert body["cache_salt"] != "t" and len(body["cache_salt"]) == 64


def test_a_server_without_metrics_is_known_by_its_models_alone(theirs: Theirs) -> None:
    found = look(theirs)
    assert (found.state, found.software, found.models, found.context) == (
        "ready",
        Software.OTHER,
        ("m",),
        4096,
    )


def test_vllms_load_is_the_sum_of_its_engines(theirs: Theirs) -> None:
    theirs.pages |= {"/metrics": (200, METRICS), "/health": (200, "")}
    found = look(theirs)
    assert (found.state, found.software, found.running, found.waiting) == ("ready", Software.VLLM, 3, 4)
    theirs.pages["/health"] = (503, "")
    assert look(theirs).state == "away", "its engine is dead, though its models are listed"


@pytest.mark.parametrize(
    "page",
    [
        (401, ""),
        (404, ""),
        (200, "no JSON"),
        (200, "[]"),
        (200, '{"data": {}}'),
        (302, "/elsewhere"),
        (500, "x"),
    ],
)
def test_whatever_else_it_answers_it_is_away(theirs: Theirs, page: tuple[int, str]) -> None:
    theirs.pages |= {"/v1/models": page, "/elsewhere": (200, MODELS)}
    assert look(theirs).state == "away"
    assert "/elsewhere" not in [path for path, *_ in theirs.sent]


@pytest.mark.parametrize("metrics", ["\x00", "vllm:num_requests_running x", METRICS[:-40]])
def test_metrics_that_are_none_leave_its_load_unknown_or_are_taken_as_far_as_they_go(
    theirs: Theirs, metrics: str
) -> None:
    theirs.pages |= {"/metrics": (200, metrics), "/health": (200, "")}
    assert look(theirs).state == "ready"


def test_a_redirect_of_a_chat_is_not_followed(theirs: Theirs) -> None:
    theirs.pages |= {"/v1/chat/completions": (302, "/elsewhere"), "/elsewhere": (200, ANSWER)}
    with pytest.raises(InferenceUnavailable):
        heard(InferenceClient(theirs.url, "", Software.OTHER))
    assert [path for path, *_ in theirs.sent] == ["/v1/chat/completions"]
