"""From a sentence to a proof: found, flagged, a case with two signatures, exported, and verified away from Custos."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.test_accessibility import violations
from tests.support.product import Product

VERIFIER = Path("audit/verifier/custos_verify.py")
QUESTION = "客户郑和的受益所有人资料可以免交吗？"
SAID = """
from audit import record
from tenants.access import actor_for_user
from tenants.models import User
actor = actor_for_user(user=User.objects.get(email="member@acme-bank.example"), tenant_slug="acme-bank")
handle = record.begin(
    actor=actor, channel="chat", input=[{{"role": "user", "content": "{question}"}}], model="m",
    model_version="v", route="default", route_reason="default", parameters={{}},
)
record.append(handle, seq=1, text="不可以。")
record.complete(handle, status="completed")
"""


def _flag(page: Page) -> None:
    page.goto("/t/acme-bank/audit/")
    page.locator("#text").fill("客户郑和")
    page.locator("#reason").fill("定期抽查")
    page.locator("#text").press("Enter")
    expect(page.locator(".hit")).to_have_count(1)
    page.locator("a.cover").first.click()
    page.get_by_role("button", name="标记", exact=True).click()
    page.locator("select[name=severity]").select_option("high")
    page.locator("textarea[name=reason]").fill("疑似规避受益所有人识别")
    page.locator("main form button.primary").last.click()


def _escalate(page: Page) -> None:
    page.goto("/t/acme-bank/audit/review/")
    page.locator("main li, main tr").filter(has_text="高").locator("a.cover").first.click()
    page.get_by_role("button", name="记录并查阅").click()
    expect(page.locator(".record-text").first).to_contain_text("客户郑和")
    page.locator("#text").fill("需要立案调查")
    page.get_by_role("button", name="升级为案件").click()
    page.wait_for_url(re.compile(r"/audit/review/(\?.*)?$"))


def _sign_escalation(page: Page) -> None:
    page.goto("/t/acme-bank/audit/review/?view=second")
    page.locator("main a.cover").first.click()
    page.locator("main textarea[name=text]").first.fill("同意立案")
    page.get_by_role("button", name="签署").click()
    page.wait_for_url(re.compile(r"/audit/review/\?view=second$"))


def _decide(page: Page) -> str:
    """Put the reviewer in as the one who signs, and decide; the case's address."""
    page.goto("/t/acme-bank/audit/cases/")
    page.locator("main a.cover").first.click()
    page.get_by_text("加入成员").first.click()
    person = page.locator("select[name=user_id] option").filter(has_text="reviewer@").get_attribute("value")
    page.locator("select[name=user_id]").select_option(person)
    page.locator("select[name=role]").select_option("approver")
    page.locator("form[action$='act/member'] button").click()
    expect(page.locator("#members")).to_contain_text("reviewer@acme-bank.example")
    page.locator("input[name=outcome][value=report]").check()
    page.locator("form[action$='act/decide'] textarea[name=reason]").fill("资料不全，多次拒绝补充。")
    page.get_by_role("button", name="作出决定").click()
    expect(page.get_by_text("有一项决定等待签字")).to_be_visible()
    assert page.get_by_role("button", name="记录我的签字").count() == 0, "nobody signs what they decided"
    return page.url


def _sign(page: Page, case: str) -> None:
    page.goto(case)
    assert violations(page) == []
    page.get_by_label("我签署此决定").check()
    page.locator("form[action$='act/sign'] textarea[name=reason]").fill("事实清楚，同意上报。")
    page.get_by_role("button", name="记录我的签字").click()
    expect(page.locator("main")).to_contain_text("由 reviewer@acme-bank.example 签字")


def _verify(bundle: Path, keys: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As on another machine: one file, an isolated Python, the two public keys."""
    command = [sys.executable, "-I", str(VERIFIER), str(bundle), "--key", keys["acme-bank"]]
    return subprocess.run(
        [*command, "--witness", keys["witness"]], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_sentence_becomes_a_case_that_two_people_sign_and_anybody_can_verify(
    product: Product, sign_in: Callable[..., Page], tmp_path: Path
) -> None:
    product.command("shell", "--no-imports", "-c", SAID.format(question=QUESTION))
    reviewer = sign_in("reviewer@acme-bank.example", locale="zh-CN")
    officer = sign_in("officer@acme-bank.example", locale="zh-CN")
    _flag(reviewer)
    _escalate(reviewer)
    _sign_escalation(officer)
    case = _decide(officer)
    _sign(reviewer, case)

    officer.goto(case)
    with officer.expect_download() as started:
        officer.get_by_role("button", name="附证明").click()
    bundle = tmp_path / "case.zip"
    started.value.save_as(bundle)
    keys = dict(line.split("\t") for line in product.command("audit_keys").splitlines() if "\t" in line)
    proven = _verify(bundle, keys)
    assert proven.returncode == 0, proven.stdout + proven.stderr

    forged = tmp_path / "forged.zip"
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(forged, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            said = text.replace(b"\\u90d1\\u548c", b"\\u90d1\\u6210") if name == "records.jsonl" else text
            assert name != "records.jsonl" or said != text
            new.writestr(name, said)
    assert _verify(forged, keys).returncode == 1

    outsider = sign_in("auditor@acme-bank.example", locale="zh-CN")
    response = outsider.goto(case)
    assert response is not None and response.status == 404, "who is outside of a case learns of none"
