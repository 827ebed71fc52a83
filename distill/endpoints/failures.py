"""What went wrong with a request to a model server, and what that means for the request."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping

import orjson

from distill.errors import BackendError
from distill.models.request import Refused

_OVERLOADED = {408, 425, 429, 502, 503, 504}  # overloaded, starting or behind a proxy: says nothing about the request
_MAX_REST = 3600.0  # seconds that a server may ask to be left alone
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class RequestFailure(Exception):
    """A request failed in a way that makes it worth repeating.

    Args:
        blames_request: the request may have a part in it.
        busy: the server lives and wants less.
        gone: the server may be dead.
        retry_after: seconds for which the server wants to be left alone.
        wasted_tokens: completion tokens that were sampled and are lost, where known.
    """

    def __init__(
        self,
        message: str,
        *,
        blames_request: bool = True,
        busy: bool = False,
        gone: bool = False,
        retry_after: float = 0.0,
        wasted_tokens: int = 0,
    ) -> None:
        super().__init__(message)
        self.blames_request = blames_request
        self.busy = busy
        self.gone = gone
        self.retry_after = retry_after
        self.wasted_tokens = wasted_tokens


def rejection(url: str, status: int, raw: bytes, headers: Mapping[str, str]) -> Exception:
    """What an error status means for the request: RequestFailure, Refused or BackendError."""
    message = f"answered {status}: {_message(raw)}"
    if status in _OVERLOADED:
        return RequestFailure(
            message, blames_request=False, busy=True, gone=status >= 500, retry_after=retry_after(headers)
        )
    if status >= 500:
        return RequestFailure(message)
    if status in (401, 403):
        return BackendError(message, where=url, fix="name the variable that holds its key in `api_key_env`")
    if status == 402:
        return BackendError(message, where=url, fix="pay there; what is finished is saved, the same command goes on")
    if status == 404:
        return BackendError(message, where=url, fix="does it still serve the model? what is finished is saved")
    return Refused(message)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds for which a server wants to be left alone.

    `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), `retry-after-ms`, else `x-ratelimit-reset-requests` and
    `-tokens` (`1s`, `6m0s`, `90ms`) where nothing remains.
    """
    header = headers.get("Retry-After", "")
    milliseconds = headers.get("retry-after-ms", "")
    if milliseconds.replace(".", "", 1).isdecimal():
        seconds = float(milliseconds) / 1000
    elif header.replace(".", "", 1).isdecimal():
        seconds = float(header)
    elif header and (date := email.utils.parsedate_tz(header)):
        seconds = email.utils.mktime_tz(date) - time.time()
    else:
        exhausted = (kind for kind in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{kind}") == "0")
        resets = (headers.get(f"x-ratelimit-reset-{kind}", "") for kind in exhausted)
        seconds = max(map(_seconds, resets), default=0)
    return min(max(seconds, 0.0), _MAX_REST)


def _seconds(duration: str) -> float:
    """The length of a duration such as `6m0s`; 0 where it is none."""
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION.findall(duration))


def _message(raw: bytes) -> str:
    """The message in an OpenAI-style error reply, `{"error": {"message": …}}`; else the reply's beginning."""
    try:
        body = orjson.loads(raw)
        return str(body.get("error", body)["message"])[:500]
    except (ValueError, LookupError, TypeError, AttributeError):
        return raw.decode(errors="replace").strip()[:200] or "nothing"
