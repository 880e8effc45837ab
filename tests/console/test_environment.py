import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from console import environment
from console.supervisor import processes


def test_a_secret_is_made_once_and_is_closed_to_others(tmp_path: Path) -> None:
    first = environment.secret(tmp_path, "token")
    assert environment.secret(tmp_path, "token") == first
    assert stat.S_IMODE((tmp_path / "secrets" / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_processes_that_ask_at_once_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(lambda _: environment.secret(tmp_path, "token"), range(64)))
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["token"], "no temporary file is left"


def test_the_process_environment_goes_before_what_the_supervisor_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "environment.json").write_text(
        '{"CUSTOS_INFERENCE_URL": "written", "CUSTOS_PORT": "8123"}'
    )
    monkeypatch.setenv("CUSTOS_VAR_DIR", str(tmp_path))
    monkeypatch.setenv("CUSTOS_INFERENCE_URL", "given")
    monkeypatch.delenv("CUSTOS_PORT", raising=False)
    loaded = environment.load()
    assert (loaded.inference_url, loaded.port) == ("given", 8123)


@pytest.mark.parametrize("wrong", ["http", "0", "70000", "-1", "80 80"])
def test_a_port_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("CUSTOS_PORT", wrong)
    with pytest.raises(environment.InvalidSetting, match="CUSTOS_PORT"):
        environment.load()


def test_a_precision_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOS_INFERENCE_PRECISION", "int4")
    with pytest.raises(environment.InvalidSetting, match="bfloat16, int8, float32"):
        environment.load()


@pytest.mark.parametrize(("given", "served"), [("", "bfloat16"), ("int8", "int8"), ("float32", "float32")])
def test_the_precision_reaches_the_inference_server(
    monkeypatch: pytest.MonkeyPatch, given: str, served: str
) -> None:
    monkeypatch.setenv("CUSTOS_INFERENCE_PRECISION", given)
    argv = processes.inference(environment.load(), port=1, token="t").argv
    assert argv[argv.index("--dtype") + 1] == served


def test_a_variable_that_is_set_but_empty_is_not_looked_up_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "environment.json").write_text('{"DATABASE_URL": "the owner\'s"}')
    monkeypatch.setenv("CUSTOS_VAR_DIR", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL")
    assert environment.load().owner_database_url == "the owner's"
    monkeypatch.setenv("DATABASE_URL", "")
    assert environment.load().owner_database_url == ""


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({}, ""),
        ({"LANG": "zh_CN.UTF-8"}, "zh-cn"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "c"),
        ({"LC_ALL": "", "LC_MESSAGES": "de_DE@euro", "LANG": "en_GB"}, "de-de"),
    ],
)
def test_the_language_of_the_shell(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], language: str
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.shell_language() == language


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", ("mail.example", 25, "", "", False, False)),
        ("smtp+starttls://u%40x:p%2F1@mail.example", ("mail.example", 587, "u@x", "p/1", True, False)),
        ("smtps://mail.example:2465", ("mail.example", 2465, "", "", False, True)),
    ],
)
def test_a_mail_server_is_read_from_its_address(url: str, expected: tuple[object, ...]) -> None:
    found = environment.mail_server(url)
    assert found is not None
    assert (found.host, found.port, found.user, found.password, found.starttls, found.tls) == expected


def test_without_an_address_mail_goes_nowhere() -> None:
    assert environment.mail_server("") is None


@pytest.mark.parametrize("url", ["mail.example", "http://mail.example", "smtp://", "smtp://mail.example:x"])
def test_an_address_that_is_no_mail_servers_is_refused(url: str) -> None:
    with pytest.raises(environment.InvalidSetting, match="smtp"):
        environment.mail_server(url)
