"""Addresses of servers: how they are written, and the file that may change while they are used."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from distill.progress import LOG


def checked_address(url: str) -> str:
    """Check a server's address and return it without a closing slash or `/v1`.

    Raises:
        ValueError: it is no address, or holds a password, which would end up in every trace.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"write http://host:port, not {url}")
    if "@" in parts.netloc:
        raise ValueError(f"name the variable with the key in `api_key_env`: no password in {parts.hostname}'s address")
    return url.rstrip("/").removesuffix("/v1")


class AddressList:
    """A file of addresses, one per line, `#` before comments: a server joins by a line and leaves with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._warned_of: set[str] = set()
        self._last_urls: list[str] = []

    def read(self) -> list[str]:
        """Read the addresses; while the file cannot be read, those read last. Lines without one are left out."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return self._last_urls  # not written yet, or being replaced
        except OSError as error:
            self._warn(f"{self._path} cannot be read ({error.strerror or error})")
            return self._last_urls
        urls = []
        for line in text.splitlines():
            entry = line.split("#", 1)[0].strip()
            if entry:
                try:
                    urls.append(checked_address(entry))
                except ValueError as error:
                    self._warn(f"{self._path}: {error}")
        self._last_urls = list(dict.fromkeys(urls))
        return self._last_urls

    def _warn(self, message: str) -> None:
        if message not in self._warned_of:
            self._warned_of.add(message)
            LOG.warning("%s", message)
