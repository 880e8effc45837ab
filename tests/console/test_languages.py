"""Chinese: every string the sources have is translated, keeps its placeholders, and reaches the pages."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po
from django.test import Client
from django.utils import translation
from django.utils.html import escape
from pytest_django import Settings

from console.supervisor import catalogues
from console.templatetags.custos import whole
from tenants.models import User
from tests.conftest import Company
from tests.support.services import REPOSITORY

CATALOGUE = Path("locale/zh_Hans/LC_MESSAGES/django.po")
# Names and symbols that are the same in both languages.
SAME = {
    ", ",
    "API",
    "AWS KMS",
    "Vault (transit)",
    "Webhook",
    "%(told)s of %(all)s",
    "p95",
    "p95 {value}",
    "p95 %(value)s",
}

# `make messages` leaves these out too, but for static/, which holds no strings for people.
LEFT_OUT = {"node_modules", "var", "static"}
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|\{\w*\}|<[^>]+>")
HAN = r"[\u4e00-\u9fff]"
LATIN = r"[A-Za-z0-9]"
WIDTHS = re.compile(rf"{HAN}\s*[,.;:!?()]|[,;:!?()]\s*{HAN}|[。，；：！？（）][^\S\n]|\s[。，；：！？（）]")
CROWDED = re.compile(rf"{HAN}(?:{LATIN}|%\(|\{{)|(?:{LATIN}|\)[a-z]|\}}){HAN}")


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, abort_invalid=True)


def messages(catalogue: Catalog) -> list[Message]:
    """All but the header, whose id is empty."""
    return [message for message in catalogue if message.id]


def texts(value: str | tuple[str, ...] | list[str]) -> list[str]:
    """The one text of a message, or each of its plural forms."""
    return [value] if isinstance(value, str) else list(value)


TRANSLATED = messages(read(REPOSITORY / CATALOGUE))


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The catalogue as `make messages` would leave it, made in a copy so that the tree stays as it is."""
    copy = tmp_path_factory.mktemp("sources")
    for folder in REPOSITORY.iterdir():
        if folder.is_dir() and folder.name not in LEFT_OUT and not folder.name.startswith("."):
            shutil.copytree(folder, copy / folder.name, ignore=shutil.ignore_patterns("__pycache__", "*.mo"))
    shutil.copy(REPOSITORY / "manage.py", copy)
    done = subprocess.run(
        [sys.executable, "manage.py", "makemessages", "--all", "--no-location", "--no-wrap"],
        cwd=copy,
        env={**os.environ, "CUSTOS_VAR_DIR": str(copy / "var")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"makemessages failed; it needs GNU gettext:\n{done.stdout}{done.stderr}"
    return read(copy / CATALOGUE)


def test_every_string_is_translated_and_none_is_left_from_before(collected: Catalog) -> None:
    untranslated = [message.id for message in messages(collected) if not all(texts(message.string))]
    assert untranslated == [], "run `make messages` and translate these"
    assert [message.id for message in messages(collected) if message.fuzzy] == []
    assert list(collected.obsolete) == [], "no source has these any more: remove them"


def test_placeholders_and_marks_are_kept() -> None:
    changed = [
        (message.id, text)
        for message in TRANSLATED
        for text in texts(message.string)
        if sorted(PLACEHOLDER.findall(text)) != sorted(PLACEHOLDER.findall(texts(message.id)[-1]))
    ]
    assert changed == []


def test_everything_is_in_chinese_but_names_and_symbols() -> None:
    without = {texts(m.id)[0] for m in TRANSLATED if not all(re.search(HAN, t) for t in texts(m.string))}
    assert without == SAME


def test_punctuation_is_chinese_and_latin_words_stand_apart() -> None:
    all_texts = [text for message in TRANSLATED for text in texts(message.string)]
    assert [text for text in all_texts if WIDTHS.search(text)] == []
    assert [text for text in all_texts if CROWDED.search(text)] == []


def test_the_header_names_nobody_and_no_place() -> None:
    header = (REPOSITORY / CATALOGUE).read_text().split("\n\n")[0]
    assert "@" not in header
    assert "Translator" not in header
    assert "#: " not in (REPOSITORY / CATALOGUE).read_text()


@pytest.fixture
def compiled(tmp_path: Path, settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """The catalogue compiled as at a start, in a folder of its own; Django forgets what it had read before."""
    copy = tmp_path / CATALOGUE
    copy.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / CATALOGUE, copy)
    assert catalogues.compile_all(tmp_path) == 1
    assert capfd.readouterr().err == "", "Babel warns about the catalogue"
    settings.LOCALE_PATHS = [tmp_path / "locale"]


def english_left_in(page: str) -> list[str]:
    """Sentences and phrases of the sources that a page still shows as they are."""
    phrases = [text for message in TRANSLATED for text in texts(message.id) if text.count(" ") >= 2]
    return [phrase for phrase in phrases if phrase in page or escape(phrase) in page]


def strings_of(page: str, name: str) -> dict[str, str]:
    """The words a page hands to its scripts."""
    found = re.search(rf'<script id="{name}-strings" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("cookie", "accepted"),
    [("zh-hans", "en"), ("", "zh-CN,zh;q=0.9,en;q=0.8"), ("", "zh-Hans"), ("", "zh")],
)
def test_the_sign_in_page_speaks_chinese(cookie: str, accepted: str, compiled: None, client: Client) -> None:
    if cookie:
        client.cookies["custos_language"] = cookie
    page = client.get("/signin/", headers={"accept-language": accepted})
    assert page.headers["Content-Language"] == "zh-hans"
    assert '<html lang="zh-CN"' in page.text
    assert "<h1>登录</h1>" in page.text
    assert "请使用公司为您开通的账号登录。" in page.text
    assert english_left_in(page.text) == []


@pytest.mark.django_db(transaction=True)
def test_what_is_wrong_with_a_form_is_said_in_chinese(compiled: None, client: Client) -> None:
    page = client.post("/signin/", {"email": "无"}, headers={"accept-language": "zh-CN"}).text
    assert "请输入完整的邮箱地址" in page
    assert "请输入密码。" in page


@pytest.mark.django_db(transaction=True)
def test_a_members_chat_speaks_chinese_and_so_do_its_scripts(
    compiled: None, acme: Company, client_of: Callable[[User], Client]
) -> None:
    page = client_of(acme.member).get("/t/acme-bank/chat/", headers={"accept-language": "zh-CN"}).text
    assert '<html lang="zh-CN"' in page
    assert "<title>新对话 · Custos</title>" in page
    assert "供 Acme Bank 的合规审查使用" in page
    assert english_left_in(page) == []
    words = strings_of(page, "chat")
    assert (words["regenerate"], words["speed"]) == ("重新生成", "{value} 词元/秒")
    assert [key for key, text in words.items() if not re.search(HAN, text)] == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("role", ["administrator", "reviewer"])
def test_other_start_pages_speak_chinese(
    role: str, compiled: None, acme: Company, client_of: Callable[[User], Client]
) -> None:
    browser = client_of(getattr(acme, role))
    page = browser.get("/", follow=True, headers={"accept-language": "zh-CN"}).text
    assert {"administrator": "租户管理员", "reviewer": "合规审查员"}[role] in page
    assert english_left_in(page) == []


@pytest.mark.django_db(transaction=True)
def test_the_platform_page_speaks_chinese(
    compiled: None, platform_administrator: User, client_of: Callable[[User], Client]
) -> None:
    page = client_of(platform_administrator).get("/platform/", headers={"accept-language": "zh-CN"}).text
    assert "队列与数据流" in page
    assert "平台管理员" in page
    assert english_left_in(page) == []


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_thousands_stand_apart_as_the_browsers_own_figures_have_them(language: str) -> None:
    with translation.override(language):
        assert whole(1234567) == "1,234,567"


@pytest.mark.django_db(transaction=True)
def test_the_language_is_switched_on_the_page_and_back(compiled: None, client: Client) -> None:
    """The switch wins over what the browser prefers."""
    wish = {"accept-language": "en"}
    assert "Use the account your company gave you." in client.get("/signin/", headers=wish).text
    answer = client.post("/language/", {"language": "zh-hans", "next": "/signin/"}, headers=wish)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/signin/")
    assert "请使用公司为您开通的账号登录。" in client.get("/signin/", headers=wish).text
    client.post("/language/", {"language": "en", "next": "/signin/"}, headers={"accept-language": "zh-CN"})
    page = client.get("/signin/", headers={"accept-language": "zh-CN"}).text
    assert '<html lang="en"' in page
    assert "Use the account your company gave you." in page
