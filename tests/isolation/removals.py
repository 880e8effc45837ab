"""Shows that the proofs would notice: takes each wall away, one at a time, and runs the tests that must go red.

    python -m tests.isolation.removals [NAME …]        (make proof)

Works in a throwaway copy of the tracked files. A wall whose removal leaves the tests green is reported, and so is one
whose code is not where it was: an entry here must be kept true.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 600


class Removal(NamedTuple):
    """`text` in `file` becomes `without`; then at least one of `tests` must fail."""

    name: str
    file: str
    text: str
    without: str
    tests: tuple[str, ...]


SCOPE, ADDRESSES, ACCESS = (
    "tests/tenants/test_scope.py",
    "tests/isolation/test_every_address.py",
    "tests/tenants/test_access.py",
)

REMOVALS = (
    Removal(
        "scoped managers",
        "tenants/models/base.py",
        "if isinstance(queryset, DisabledQuerySet):",
        "if False:",
        (SCOPE,),
    ),
    Removal(
        "row-level security",
        "tenants/isolation.py",
        "OWN_ROWS = \"tenant_id = nullif(current_setting('custos.tenant', true), '')::uuid\"",
        'OWN_ROWS = "true"',
        (SCOPE,),
    ),
    Removal(
        "row-level security of the owner",
        "tenants/isolation.py",
        "ALTER TABLE {} FORCE ROW LEVEL SECURITY",
        "ALTER TABLE {} NO FORCE ROW LEVEL SECURITY",
        (SCOPE,),
    ),
    Removal(
        "the scope of one tenant inside another's",
        "tenants/scope.py",
        "if current is not None and current != tenant_id:",
        "if False:",
        (SCOPE,),
    ),
    Removal(
        "permission of a page",
        "console/tenancy.py",
        "require(request.actor, permission)",
        "pass",
        ("tests/console/test_tenancy.py",),
    ),
    Removal(
        "membership",
        "tenants/actors.py",
        "Membership.objects.filter(user=user, disabled=None, user__is_active=True).first()",
        "Membership.objects.filter(disabled=None, user__is_active=True).first()",
        (ADDRESSES, ACCESS),
    ),
    Removal(
        "suspension of a tenant",
        "tenants/actors.py",
        "Tenant.objects.filter(slug=tenant_slug, status=Tenant.Status.ACTIVE).first()",
        "Tenant.objects.filter(slug=tenant_slug).first()",
        (ACCESS,),
    ),
    Removal(
        "the secret of a key",
        "tenants/actors.py",
        "if key is None or not key.matches(secret):",
        "if key is None:",
        (ACCESS, ADDRESSES),
    ),
    Removal(
        "grants on single objects",
        "tenants/access.py",
        "found = queryset.filter(tenant_id=actor.tenant_id, pk__in=ids)",
        "found = queryset.filter(tenant_id=actor.tenant_id)",
        ("tests/tenants/test_grants.py", ADDRESSES),
    ),
    Removal(
        "the names that a key is confined to",
        "tenants/access.py",
        "if kind.named_in_keys and actor.allowed_routes is not None:",
        "if False:",
        ("tests/tenants/test_grants.py",),
    ),
    Removal(
        "losing a grant in the middle of an answer",
        "tenants/access.py",
        "if not (_may_hold_grants(actor) and is_met(actor, need))}",
        "if False}",
        ("tests/isolation/test_revocation_trials.py",),
    ),
    Removal(
        "separation of duties",
        "tenants/custom_roles.py",
        "if len(duties_of(wanted)) > 1:",
        "if False:",
        ("tests/tenants/test_roles.py",),
    ),
    Removal(
        "scopes of keys",
        "tenants/roles.py",
        "return (permissions & allowed) | provision",
        "return permissions | provision",
        ("tests/tenants/test_keys.py",),
    ),
    Removal(
        "scopes at the management API",
        "console/management_api/access.py",
        "if not enough & (actor.scopes or frozenset()):",
        "if False:",
        ("tests/management_api/test_requests.py", "tests/isolation/test_every_operation.py"),
    ),
    Removal(
        "networks",
        "tenants/networks.py",
        "    if not networks:\n        return True",
        "    if True:\n        return True",
        ("tests/tenants/test_networks.py", "tests/tenants/test_keys.py"),
    ),
    Removal(
        "the second factor that a tenant requires",
        "console/sign_in/entry.py",
        "if not requires_second_factor(tenant_id):",
        "if True:",
        ("tests/sign_in/test_second_factors.py",),
    ),
    Removal(
        "a provider opens its own tenant only",
        "console/sign_in/entry.py",
        "if not is_own(session, user) and not _is_vouched_for(session, user, tenant_id):",
        "if False:",
        ("tests/sign_in/test_single_sign_on.py",),
    ),
    Removal(
        "quotas without Valkey",
        "tenants/quotas/reservations.py",
        "            raise QuotaUnavailable(str(error)) from error",
        "            return None  # type: ignore[return-value]",
        ("tests/quotas/test_generations.py", "tests/quotas/test_reservations.py"),
    ),
    Removal(
        "the record of a change",
        "tenants/changes.py",
        "    if _sink is None:\n        raise RuntimeError(",
        "    return\n    if _sink is None:\n        raise RuntimeError(",
        ("tests/tenants/test_changes.py",),
    ),
    Removal(
        "the salt of the prefix cache",
        "inference/engine/blocks.py",
        "return tokens if end > self.block_size else (salt, tokens)",
        "return tokens",
        ("tests/inference/test_prefix_cache.py",),
    ),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("names", nargs="*", help="walls to take away; none: all")
    wanted = arguments.parse_args().names
    with tempfile.TemporaryDirectory(prefix="custos-removals-") as folder:
        copy = _copy(Path(folder))
        found = [_problem(copy, each) for each in REMOVALS if not wanted or each.name in wanted]
    problems = [problem for problem in found if problem]
    print("\n".join(problems) or f"each of {len(found)} walls is missed when it is gone")
    raise SystemExit(bool(problems))


def _copy(folder: Path) -> Path:
    copy = folder / "copy"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(copy)], check=True)
    # PostgreSQL runs as another account when we are root, and must reach its files.
    folder.chmod(0o755)
    for name in ("node_modules", "static/build"):
        if (REPOSITORY / name).exists():
            (copy / name).parent.mkdir(exist_ok=True)
            (copy / name).symlink_to(REPOSITORY / name)
    return copy


def _problem(copy: Path, removal: Removal) -> str:
    path = copy / removal.file
    whole = path.read_text()
    if whole.count(removal.text) != 1:
        return f"{removal.name}: {removal.file} holds its code {whole.count(removal.text)} times, not once"
    path.write_text(whole.replace(removal.text, removal.without))
    try:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "--no-header",
            "-p",
            "no:cacheprovider",
            *removal.tests,
        ]
        ran = subprocess.run(command, check=False, cwd=copy, capture_output=True, text=True, timeout=LIMIT_S)
    finally:
        path.write_text(whole)
    is_red = ran.returncode == 1 and " failed" in ran.stdout
    print(f"{'red' if is_red else 'NOT RED':8}{removal.name}", flush=True)
    return "" if is_red else f"{removal.name}: without it the tests do not fail\n{ran.stdout[-2000:]}"


if __name__ == "__main__":
    main()
