"""With Prometheus: the same series in its language, read over its HTTP API; and the files of deploy/ name what there is."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml
from django.conf import settings
from django.test import Client
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from console.monitoring.catalogue import KEPT, SERIES, SERIES_BY_NAME
from console.monitoring.prometheus import Prometheus, promql
from console.monitoring.reading import Unreachable
from inference.server.metrics import Metrics, Snapshot
from tests.monitoring.conftest import NOON
from tests.support.services import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
# Metrics of Prometheus itself, and of devices that no test has.
ELSEWHERE = {"up", "custos_inference_gpu_memory_used_bytes", "custos_inference_gpu_memory_total_bytes"}


class Server:
    """Answers as Prometheus' HTTP API does."""

    def __init__(self) -> None:
        self.status, self.asked = 200, list[dict[str, str]]()
        self.answer: Any = {"status": "success", "data": {"resultType": "matrix", "result": []}}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                server.asked.append({name: values[0] for name, values in parse_qs(body).items()})
                self.send_response(server.status)
                self.end_headers()
                self.wfile.write(json.dumps(server.answer).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def test_a_step_has_what_prometheus_says_at_its_end(server: Server) -> None:
    start = NOON.timestamp()
    server.answer["data"]["result"] = [{"metric": {}, "values": [[start + 60, "1.5"], [start + 120, "NaN"]]}]
    points = Prometheus(server.url).points(
        ["queue"], since=NOON, until=NOON + timedelta(minutes=3), step_s=60
    )
    assert points.times == [start, start + 60, start + 120]
    assert points.values == {"queue": [1.5, None, None]}
    (asked,) = server.asked
    assert asked["query"] == 'sum(max_over_time(vllm:num_requests_waiting{job="custos-inference"}[60s]))'
    assert (float(asked["start"]), float(asked["end"]), asked["step"]) == (start + 60, start + 180, "60")


@pytest.mark.parametrize("answer", [[], {"data": None}, {"data": {"result": [{}]}}, "x"])
def test_nonsense_is_no_figure(answer: Any, server: Server) -> None:
    server.answer = answer
    with pytest.raises(Unreachable):
        Prometheus(server.url).points(["queue"], since=NOON, until=NOON + timedelta(minutes=3), step_s=60)


def test_one_that_is_away_is_told_to_be() -> None:
    with pytest.raises(Unreachable):
        Prometheus("http://127.0.0.1:9").points(
            ["queue"], since=NOON, until=NOON + timedelta(minutes=3), step_s=60
        )


def names_in(text: str) -> set[str]:
    """The names of metrics in a text of PromQL."""
    return set(re.findall(r"\b(?:custos_\w+|vllm:\w+|process_\w+|up(?=[{\s\[)=<]))", text))


@pytest.fixture
def exposed(client: Client, db: None) -> set[str]:
    """The name of every sample that web and inference expose, counted before or not."""
    service = Metrics(lambda: Snapshot("m", True, 2048, 8, 32, None))
    web = client.get("/metrics", headers={"Authorization": f"Bearer {settings.METRICS_TOKEN}"}).text
    found = set(ELSEWHERE)
    for text in (web, generate_latest(service.registry).decode()):
        for family in text_string_to_metric_families(text):
            found |= {sample.name for sample in family.samples}
            # A family with labels has no sample until it counts.
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
                family.type, ("",)
            )
            found |= {f"{family.name}{end}" for end in ends}
    return found


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_every_series_asks_for_what_there_is(series: Any, exposed: set[str]) -> None:
    names = names_in(promql(series, window_s=60))
    assert names
    assert names <= exposed


def test_every_kept_number_is_read_by_a_series() -> None:
    assert {kept.name for kept in KEPT} == {name for series in SERIES_BY_NAME.values() for name in series.of}


def test_the_dashboard_asks_for_what_there_is(exposed: set[str]) -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "custos.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(asked) >= 20
    assert set().union(*map(names_in, asked)) <= exposed
    assert all(names_in(each) for each in asked)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_the_alert_rules_ask_for_what_there_is(exposed: set[str]) -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    asked = [rule["expr"] for group in groups for rule in group["rules"]]
    assert len(asked) >= 8
    assert all(names_in(each) and names_in(each) <= exposed for each in asked)


def test_the_scrape_jobs_are_those_that_the_series_name() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job["metrics_path"] for job in config["scrape_configs"]}
    assert jobs == {"custos": "/metrics", "custos-inference": "/metrics/inference"}
    assert config["rule_files"] == ["alerts.yml"]
