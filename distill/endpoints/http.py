"""HTTP to model servers: a client without the usual limits, behind whatever gateway there is."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import orjson

from distill.endpoints.failures import RequestFailure
from distill.errors import InputError
from distill.types import NO_RESULT, Record

if TYPE_CHECKING:
    from aiohttp import AddrInfoType as AddrInfo
    from aiohttp import ClientResponse, ClientSession


class Gateway(Record):
    """What stands between here and a server. Secrets are named, never written: a recipe is stored with its run."""

    api_key_env: Annotated[str | None, NO_RESULT] = None
    """Name of the environment variable that holds the API key; None sends no key."""
    headers: Annotated[dict[str, str], NO_RESULT] = {}
    """Headers of every request besides the usual ones; a value `$NAME` is read from the environment."""
    proxy: Annotated[str | None, NO_RESULT] = None
    """Address of an HTTP proxy, or `$NAME`; `env` takes what the environment says (HTTPS_PROXY, NO_PROXY), None goes
    directly."""
    ca: Annotated[Path | None, NO_RESULT] = None
    """PEM file of a certificate authority to trust besides the system's; None trusts the system's only."""


def session(
    api_key: str | None, headers: Mapping[str, str] | None = None, proxy: str | None = None, ca: Path | None = None
) -> ClientSession:
    """A client without aiohttp's usual limits: 100 connections, 5 minutes a reply."""
    from aiohttp import ClientSession, ClientTimeout, TCPConnector

    verify: ssl.SSLContext | bool = True
    if ca:
        verify = ssl.create_default_context()
        try:
            verify.load_verify_locations(cafile=ca)
        except OSError as error:  # ssl.SSLError is one
            raise InputError(f"cannot be read: {error.strerror or error}", where=f"ca: {ca}") from error
    # Servers close idle connections after 5 s; closing first avoids sending into one that is just going.
    connector = TCPConnector(limit=0, keepalive_timeout=3, socket_factory=_keepalive, ssl=verify)
    all_headers = {"Content-Type": "application/json"}
    if api_key:
        all_headers["Authorization"] = f"Bearer {api_key}"
    all_headers |= headers or {}
    timeout = ClientTimeout(total=None, sock_connect=30)
    return ClientSession(connector=connector, headers=all_headers, proxy=proxy, timeout=timeout, read_bufsize=2**20)


def _keepalive(info: AddrInfo) -> socket.socket:
    """A reply may take an hour: without probes, a machine that vanished would be waited for like one that works."""
    connection = socket.socket(*info[:3])
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return connection


class Http:
    """Requests to the server at `url`."""

    def __init__(self, url: str, gateway: Gateway) -> None:
        self.url = url
        self._gateway = gateway
        self._client = self._connect()

    def _connect(self) -> ClientSession:
        gateway = self._gateway
        api_key = _secret(f"${gateway.api_key_env}", "api_key_env") if gateway.api_key_env else None
        headers = {name: _secret(value, f"headers.{name}") for name, value in gateway.headers.items()}
        return session(api_key, headers, _proxy(gateway.proxy, self.url), gateway.ca)

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, body: object = None, *, timeout: float, silence: float | None = None
    ) -> AsyncIterator[ClientResponse]:
        """Send a request and yield the response.

        What goes wrong on the way, also while the reply is read, becomes a RequestFailure.

        Args:
            timeout: seconds for all of it.
            silence: seconds that may pass without a byte.
        """
        from aiohttp import ClientConnectorError, ClientError, ClientTimeout, ConnectionTimeoutError

        data = None if body is None else orjson.dumps(body)
        client_timeout = ClientTimeout(total=timeout, sock_connect=30, sock_read=silence)
        try:
            async with self._client.request(method, self.url + path, data=data, timeout=client_timeout) as response:
                yield response
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise RequestFailure(
                f"cannot be reached: {error.__cause__ or error}", blames_request=False, gone=True
            ) from error
        except TimeoutError as error:
            raise RequestFailure(f"gave no reply in {min(timeout, silence or timeout):g} s", gone=True) from error
        except (ClientError, OSError) as error:
            raise RequestFailure(f"broke off: {error or type(error).__name__}", gone=True) from error

    async def reset(self) -> None:
        """Drop all connections: whoever waits for a reply sees it break off."""
        previous_client = self._client
        self._client = self._connect()
        await previous_client.close()

    async def close(self) -> None:
        await self._client.close()


def _secret(value: str, where: str) -> str:
    """`value`, or what the environment holds where it says `$NAME`."""
    if not value.startswith("$"):
        return value
    secret = os.environ.get(value[1:])
    if not secret:
        raise InputError(f"the environment variable {value[1:]} is not set", where=where)
    return secret


def _proxy(setting: str | None, url: str) -> str | None:
    """The proxy that `Gateway.proxy` means for `url`."""
    if setting != "env":
        return _secret(setting or "", "proxy") or None
    # not aiohttp's trust_env: that also reads ~/.netrc, for every request, and lets it replace the API key
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def allow_sockets(connections: int) -> None:
    """Raise this process's limit of open files, which is often 1,024, so that `connections` fit.

    Raises:
        InputError: the system does not allow that many.
    """
    needed_files = connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed_files:
        if hard != resource.RLIM_INFINITY and hard < needed_files:
            fix = f"lower it to {max(1, hard - 256)}, or raise the hard limit (`ulimit -Hn`)"
            raise InputError(
                f"{connections} needs more open files than the {hard} allowed", where="concurrency", fix=fix
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed_files, hard))
