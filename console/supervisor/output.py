"""Lines on the terminal, each with the name of the part it comes from.

A thread of its own writes them: a paused terminal or a full pipe must not hold up the supervisor. When
nobody reads, lines are dropped here; they are all in the log files.
"""

import os
import queue
import re
import sys
import threading
from typing import TextIO

NAME_WIDTH = 9
COLOURS = {"custos": 36, "web": 32, "inference": 35, "worker": 33, "beat": 34}
OTHER_COLOUR = 37
HELD_LINES = 10_000

# A child's line could otherwise move the cursor or change the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Output:
    """Writes lines to `stream`, coloured when it is a terminal (and NO_COLOR is not set)."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._colour = stream.isatty() and not os.environ.get("NO_COLOR")
        self._lines: queue.Queue[str | None] = queue.Queue(HELD_LINES)
        self._writer = threading.Thread(target=self._write, name="output", daemon=True)
        self._writer.start()

    def line(self, name: str, text: str) -> None:
        """One line of the part `name`."""
        prefix = f"{name:<{NAME_WIDTH}} │"
        if self._colour:
            prefix = f"\x1b[{COLOURS.get(name, OTHER_COLOUR)}m{prefix}\x1b[0m"
        self._put(f"{prefix} {_CONTROL.sub(' ', text)}")

    def say(self, text: str) -> None:
        """What the supervisor itself has to say, a line at a time."""
        for line in text.splitlines():
            self.line("custos", line)

    def frame(self, lines: list[str]) -> None:
        """A block that stands out."""
        width = max(map(len, lines))
        self._put("\n╭" + "─" * (width + 4) + "╮")
        for line in lines:
            self._put(f"│  {line:<{width}}  │")
        self._put("╰" + "─" * (width + 4) + "╯\n")

    def close(self) -> None:
        """Write out what is held, for two seconds at most."""
        try:
            self._lines.put(None, timeout=1)
        except queue.Full:
            return
        self._writer.join(timeout=2)

    def _put(self, text: str) -> None:
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            pass

    def _write(self) -> None:
        encoding = self._stream.encoding or "utf-8"
        while (text := self._lines.get()) is not None:
            try:
                self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # the reader is gone
                continue
