"""The running product under load and faults for a while: nothing is lost, nothing leaks.

    python -m benchmarks.soak [--minutes 10] [--programs 4]

Programs of both tenants ask through the API without a pause; every third one hangs up in the middle. Meanwhile the
inference process is killed each minute. At the end every request that was accepted has exactly one closed audit record,
no generation is left running, and memory has not grown by more than a quarter since the first minute.
"""

import argparse
import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks import product

MODEL = "smollm2-135m-instruct"
TENANTS = ("acme-bank", "north-fund")
KILL_EVERY_S = 60
GROWTH_ALLOWED = 1.25
REAPER_S = 75


@dataclass
class Seen:
    """What the programs saw: request ids by how they went, and unexpected answers."""

    accepted: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)

    def note(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--programs", type=int, default=4)
    options = arguments.parse_args()
    with product.folder() as state, product.running(state) as url:
        keys = [product.api_key("soak", tenant=tenant) for tenant in TENANTS]
        seen = Seen()
        before, after = asyncio.run(_run(url, keys, options.programs, options.minutes * 60, state, seen))
        print(f"outcomes: {dict(sorted(seen.outcomes.items()))}")
        print(f"memory of the web process: {before >> 20} MB after a minute, {after >> 20} MB at the end")
        time.sleep(REAPER_S)
        problems = _audit_problems(seen)
    if after > before * GROWTH_ALLOWED:
        problems.append("the web process's memory has grown")
    if unexpected := {o for o in seen.outcomes if o.startswith("unexpected")}:
        problems.append(f"answers that should not be: {unexpected}")
    print("\n".join(problems) or f"all {len(seen.accepted)} accepted requests have one closed record")
    raise SystemExit(bool(problems))


async def _run(
    url: str, keys: list[str], programs: int, seconds: float, state: Path, seen: Seen
) -> tuple[int, int]:
    """The web process's resident bytes after the first minute (or a tenth of the time) and at the end."""
    until = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        asking = [asyncio.create_task(_program(client, keys[n % 2], until, seen)) for n in range(programs)]
        killing = asyncio.create_task(_kill_inference(state, until))
        await asyncio.sleep(min(60, seconds / 10))
        before = _resident(_pid(state, "uvicorn"))
        await asyncio.gather(*asking)
        killing.cancel()
    return before, _resident(_pid(state, "uvicorn"))


async def _program(client: httpx.AsyncClient, key: str, until: float, seen: Seen) -> None:
    body = {"model": MODEL, "stream": True, "max_tokens": 60, "ignore_eos": True}
    headers = {"Authorization": f"Bearer {key}"}
    while time.monotonic() < until:
        body["messages"] = [
            {"role": "user", "content": f"Tell me about the number {random.randrange(10**6)}."}
        ]
        hangs_up = random.randrange(3) == 0
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
                if request_id := response.headers.get("x-request-id"):
                    seen.accepted[request_id] = key
                seen.note(await _read(response, hangs_up))
        except httpx.HTTPError as error:
            seen.note(f"unexpected: {type(error).__name__}")
        if not hangs_up:
            await asyncio.sleep(random.random())


async def _read(response: httpx.Response, hangs_up: bool) -> str:
    if response.status_code in (429, 503):
        await asyncio.sleep(1)
        return f"refused {response.status_code}"
    if response.status_code != 200:
        return f"unexpected: {response.status_code}"
    lines, failed = 0, False
    async for line in response.aiter_lines():
        lines += line.startswith("data:")
        failed = failed or '"error"' in line
        if hangs_up and lines > 10:
            return "hung up"
    return "interrupted" if failed else "answered"


async def _kill_inference(state: Path, until: float) -> None:
    while time.monotonic() < until - KILL_EVERY_S:
        await asyncio.sleep(KILL_EVERY_S)
        os.kill(_pid(state, "inference.server"), signal.SIGKILL)


def _pid(state: Path, marker: str) -> int:
    """The product's process that runs `marker`."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = (
                str(state).encode() in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            )
            if ours and marker.encode() in (process / "cmdline").read_bytes():
                return int(process.name)
        except OSError:
            continue
    raise SystemExit(f"{marker} does not run")


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _audit_problems(seen: Seen) -> list[str]:
    """Accepted requests without exactly one closed record, and records that are still open."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
    import django

    django.setup()
    from audit.models import AuditCompletion, AuditRecord
    from tenants.models import Tenant
    from tenants.scope import tenant_scope

    recorded: set[str] = set()
    closed: set[str] = set()
    for tenant in Tenant.objects.filter(slug__in=TENANTS):
        with tenant_scope(tenant.pk):
            recorded |= {str(each) for each in AuditRecord.objects.values_list("id", flat=True)}
            closed |= {str(pk) for pk in AuditCompletion.objects.values_list("request_id", flat=True)}
    problems = [f"no record of {request_id}" for request_id in set(seen.accepted) - recorded]
    return problems + [f"{request_id} is still open" for request_id in recorded - closed]


if __name__ == "__main__":
    main()
