"""Lock, addresses, catalogues, stamps, logs."""

import json
import socket
from pathlib import Path

import psycopg.conninfo
import pytest

from console.supervisor import catalogues, logs, stamps
from console.supervisor.errors import SupervisorError
from console.supervisor.lock import AlreadyRunning, FolderLock
from console.supervisor.ports import free_port, port_is_free
from console.supervisor.settings import application_url, publish

CATALOGUE = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"

msgid "Chat"
msgstr "对话"
"""


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.holder() is None
    first.acquire()
    with pytest.raises(AlreadyRunning, match="being started"):
        second.acquire()
    first.describe(address="http://127.0.0.1:8000")
    with pytest.raises(AlreadyRunning, match=r"http://127\.0\.0\.1:8000 \(process \d+\)"):
        second.acquire()
    assert (second.holder() or {})["address"] == "http://127.0.0.1:8000"
    first.release()
    assert second.holder() is None
    second.acquire()
    second.release()


def test_a_port_in_use_is_not_free() -> None:
    port = free_port()
    assert port_is_free("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError):
        port_is_free("192.0.2.1", 8000)


@pytest.mark.parametrize(
    "owner",
    [
        "postgresql://owner:p%40ss@db.example:5433/custos?sslmode=require",
        "postgresql://owner:secret@/custos?host=%2Ftmp%2FA%20b&port=5432",
    ],
)
def test_the_application_reaches_the_same_database_as_its_plain_role(owner: str) -> None:
    before = psycopg.conninfo.conninfo_to_dict(owner)
    after = psycopg.conninfo.conninfo_to_dict(application_url(owner, "its/own@"))
    assert after.pop("user") == "custos_app" and after.pop("password") == "its/own@"
    del before["user"], before["password"]
    assert after == before


def test_published_addresses_are_closed_to_others(tmp_path: Path) -> None:
    file = tmp_path / "environment.json"
    publish(file, {"REDIS_URL": "redis://"})
    assert json.loads(file.read_text()) == {"REDIS_URL": "redis://"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_catalogues_are_compiled_when_newer(tmp_path: Path) -> None:
    import gettext

    source = tmp_path / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
    source.parent.mkdir(parents=True)
    source.write_text(CATALOGUE)
    assert catalogues.compile_all(tmp_path) == 1
    with source.with_suffix(".mo").open("rb") as file:
        assert gettext.GNUTranslations(file).gettext("Chat") == "对话"
    assert catalogues.compile_all(tmp_path) == 0


def test_a_broken_catalogue_is_named(tmp_path: Path) -> None:
    source = tmp_path / "locale" / "de" / "LC_MESSAGES" / "django.po"
    source.parent.mkdir(parents=True)
    source.write_text(CATALOGUE + 'msgid "unfinished\n')
    with pytest.raises(SupervisorError, match=r"locale/de/LC_MESSAGES/django\.po"):
        catalogues.compile_all(tmp_path)


def test_a_digest_follows_names_and_contents(tmp_path: Path) -> None:
    sources = tmp_path / "frontend"
    sources.mkdir()
    (sources / "a.ts").write_text("1")
    seen = {stamps.digest(tmp_path, [sources])}
    (sources / "a.ts").write_text("2")
    seen.add(stamps.digest(tmp_path, [sources]))
    (sources / "a.ts").rename(sources / "b.ts")
    seen.add(stamps.digest(tmp_path, [sources]))
    (sources / "c.ts").write_text("")
    seen.add(stamps.digest(tmp_path, [sources]))
    assert len(seen) == 4
    assert stamps.digest(tmp_path, [sources]) in seen


def test_logs_keep_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "ROTATE_BYTES", 1000)
    log = logs.LogFile(tmp_path / "web.log")
    for number in range(1000):
        log.write(f"line {number:04}")
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["web.log", "web.log.1", "web.log.2", "web.log.3"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5000
    newest = (tmp_path / "web.log.1").read_text() + (tmp_path / "web.log").read_text()
    assert "line 0999" in newest
