"""Addresses of servers: how they are written, and the file that may change while they are used."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import urlsplit

LOG = logging.getLogger(__name__)


def address(given: str) -> str:
    """An address without a closing slash or `/v1`.

    Raises:
        ValueError: it is none, or holds a password, which would end up in every trace.
    """
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"write http://host:port, not {given}")
    if "@" in parts.netloc:
        raise ValueError(f"name the variable with the key in `api_key_env`: no password in {parts.hostname}'s address")
    return given.rstrip("/").removesuffix("/v1")


class Roster:
    """A file of addresses, one per line, `#` before comments: a server joins by a line and leaves with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bad: set[str] = set()
        self._last: list[str] = []

    def read(self) -> list[str]:
        """The addresses now; the last ones known while the file cannot be read, and no line that is none."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return self._last  # not written yet, or being replaced
        except OSError as error:
            self._warn(f"{self._path} cannot be read ({error.strerror or error})")
            return self._last
        found = []
        for line in text.splitlines():
            if given := line.split("#", 1)[0].strip():
                try:
                    found.append(address(given))
                except ValueError as error:
                    self._warn(f"{self._path}: {error}")
        self._last = list(dict.fromkeys(found))
        return self._last

    def _warn(self, what: str) -> None:
        if what not in self._bad:
            self._bad.add(what)
            LOG.warning("%s", what)
