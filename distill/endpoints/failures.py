"""What went wrong with a request to a model server, and what that means for the request."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping

import orjson

from distill.backends import Refused
from distill.errors import BackendError

_OVERLOADED = {408, 425, 429, 502, 503, 504}  # overloaded, starting or behind a proxy: says nothing about the request
_LONGEST_REST = 3600.0  # seconds that a server may ask to be left alone
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Failure(Exception):
    """An attempt that is worth repeating.

    Args:
        counts: the request may have a part in it.
        busy: the server lives and wants less.
        gone: the server may be dead.
        after: seconds for which it wants to be left alone.
        wasted: completion tokens that were sampled and are lost, where known.
    """

    def __init__(
        self,
        what: str,
        *,
        counts: bool = True,
        busy: bool = False,
        gone: bool = False,
        after: float = 0.0,
        wasted: int = 0,
    ) -> None:
        super().__init__(what)
        self.counts, self.busy, self.gone, self.after, self.wasted = counts, busy, gone, after, wasted


def rejection(url: str, status: int, raw: bytes, headers: Mapping[str, str]) -> Exception:
    """What an error status means for the request: Failure, Refused or BackendError."""
    said = f"answered {status}: {_message(raw)}"
    if status in _OVERLOADED:
        return Failure(said, counts=False, busy=True, gone=status >= 500, after=rest(headers))
    if status >= 500:
        return Failure(said)
    if status in (401, 403):
        return BackendError(said, where=url, fix="name the variable that holds its key in `api_key_env`")
    if status == 402:
        return BackendError(said, where=url, fix="pay there; finished traces are saved, the same command goes on")
    if status == 404:
        return BackendError(said, where=url, fix="does it still serve the model? finished traces are saved")
    return Refused(said)


def rest(headers: Mapping[str, str]) -> float:
    """Seconds for which a server wants to be left alone.

    `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), `retry-after-ms`, else `x-ratelimit-reset-requests` and
    `-tokens` (`1s`, `6m0s`, `90ms`) where nothing remains.
    """
    asked = headers.get("Retry-After", "")
    if (ms := headers.get("retry-after-ms", "")).replace(".", "", 1).isdecimal():
        seconds = float(ms) / 1000
    elif asked.replace(".", "", 1).isdecimal():
        seconds = float(asked)
    elif asked and (date := email.utils.parsedate_tz(asked)):
        seconds = email.utils.mktime_tz(date) - time.time()
    else:
        empty = (kind for kind in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{kind}") == "0")
        resets = (headers.get(f"x-ratelimit-reset-{kind}", "") for kind in empty)
        seconds = max((sum(float(n) * _SECONDS[unit] for n, unit in _DURATION.findall(r)) for r in resets), default=0)
    return min(max(seconds, 0.0), _LONGEST_REST)


def _message(raw: bytes) -> str:
    """The message in an OpenAI-style error reply, `{"error": {"message": …}}`; else the reply's beginning."""
    try:
        reply = orjson.loads(raw)
        return str(reply.get("error", reply)["message"])[:500]
    except (ValueError, LookupError, TypeError, AttributeError):
        return raw.decode(errors="replace").strip()[:200] or "nothing"
