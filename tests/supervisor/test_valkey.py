"""Valkey's launcher, with the real server and each client that Custos uses."""

from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest
import redis
from channels_redis.pubsub import RedisPubSubChannelLayer

from console.supervisor.valkey import ValkeyServer
from tests.supervisor.alive import kill_9, wait_for_end

PASSWORD = 'p@ss/w"ö rd\\'


@pytest.fixture
def server(folder: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(folder / "valkey", PASSWORD)
    server.start()
    yield server
    server.stop()


async def test_one_url_serves_redis_channels_and_celery(server: ValkeyServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
    with kombu.Connection(server.url) as connection:
        queue = connection.SimpleQueue("test")
        queue.put("hello")
        assert queue.get(timeout=5).payload == "hello"
        queue.close()
    layer = RedisPubSubChannelLayer(hosts=[server.url])
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_send("group", {"type": "hint"})
    assert await layer.receive(channel) == {"type": "hint"}
    await layer.flush()


def test_without_the_password_nothing_is_answered(server: ValkeyServer) -> None:
    client = redis.Redis(host="127.0.0.1", port=int(server.url.rpartition(":")[2].split("/")[0]))
    with pytest.raises(redis.AuthenticationError):
        client.ping()


def test_nothing_is_kept_on_disk_and_nothing_is_evicted(server: ValkeyServer) -> None:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert int(client.config_get("maxmemory")["maxmemory"]) > 0
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_the_password_is_not_on_the_command_line(server: ValkeyServer) -> None:
    assert PASSWORD.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()


def test_a_restart_keeps_the_address(server: ValkeyServer) -> None:
    before = server.url
    kill_9(server, server.pid)
    server.start()
    assert server.url == before
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_stop_leaves_no_process(server: ValkeyServer) -> None:
    pid = server.pid
    assert pid is not None
    server.stop()
    assert wait_for_end([pid]) == []
    server.stop()  # harmless


def test_two_servers_run_side_by_side(server: ValkeyServer, folder: Path) -> None:
    other = ValkeyServer(folder / "other", "different")
    other.start()
    try:
        assert other.url != server.url
        with redis.Redis.from_url(other.url) as client:
            assert client.ping()
    finally:
        other.stop()
