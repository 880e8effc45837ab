"""Which key provider is used, and that nothing is half configured."""

import pytest

from console import environment
from console.environment import InvalidSetting
from console.supervisor.processes import SECRET_VARIABLES

VAULT = {
    "CUSTOS_KEY_PROVIDER": "vault",
    "CUSTOS_VAULT_ADDRESS": "https://vault.example:8200/",
    "CUSTOS_VAULT_KEY": "custos",
    "CUSTOS_VAULT_TOKEN_FILE": "/run/vault/token",
}
KMS = {
    "CUSTOS_KEY_PROVIDER": "aws-kms",
    "CUSTOS_KMS_KEY": "alias/custos",
    "CUSTOS_KMS_REGION": "eu-central-1",
}


def _load(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> environment.KeySettings:
    for name in {*VAULT, *KMS}:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return environment.load().keys


def test_a_local_file_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _load(monkeypatch, {}).provider == "local"


def test_each_with_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    vault = _load(monkeypatch, VAULT)
    assert (vault.vault_address, vault.vault_mount) == ("https://vault.example:8200", "transit")
    assert _load(monkeypatch, KMS).kms_key == "alias/custos"


@pytest.mark.parametrize(
    ("provider", "missing"),
    [(given, name) for given in (VAULT, KMS) for name in given if name != "CUSTOS_KEY_PROVIDER"],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, provider: dict[str, str], missing: str
) -> None:
    with pytest.raises(InvalidSetting, match=missing):
        _load(monkeypatch, {name: value for name, value in provider.items() if name != missing})


def test_an_unknown_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSetting, match="CUSTOS_KEY_PROVIDER is 'gcp'"):
        _load(monkeypatch, {"CUSTOS_KEY_PROVIDER": "gcp"})


def test_the_token_is_shown_nowhere_and_the_model_server_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**VAULT, "CUSTOS_VAULT_TOKEN": "hidden-word"}
    assert "hidden-word" not in repr(_load(monkeypatch, given))
    assert {"CUSTOS_VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} <= SECRET_VARIABLES
