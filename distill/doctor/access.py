"""What needs leave: the Hub's token, and namespaces for the sandbox."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from distill.doctor import child
from distill.doctor.finding import Finding, Status
from distill.errors import DistillError


def hub(_: Path) -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        message = "offline: HF_HUB_OFFLINE is set, so only what is in the cache can be loaded"
        yield Finding(name="Hub", status="missing", message=message, fix="unset HF_HUB_OFFLINE")
    elif not (token := get_token()):
        message = f"no login at {constants.ENDPOINT}: public models load, gated ones and publishing need one"
        yield Finding(name="Hub", status="missing", message=message, fix="hf auth login, or HF_TOKEN")
    else:
        answer = child.try_steps(["hub"], 20)["hub"]
        if "error" not in answer:
            yield Finding(name="Hub", status="ok", message=f"logged in at {constants.ENDPOINT} as {answer['user']}")
            return
        if answer.get("status") in (401, 403):
            message = f"{constants.ENDPOINT} refuses the token: {answer['error']}"
            fix = "hf auth login with another token"
        else:
            message = f"{constants.ENDPOINT} cannot be asked: {answer['error']}"
            fix = "offline? Look at the network, the proxy, HF_ENDPOINT"
        yield Finding(name="Hub", status="broken", message=message.replace(token, "(the token)"), fix=fix)


def sandbox(_: Path) -> Iterator[Finding]:
    from distill.sandbox import bubblewrap

    try:
        bubblewrap.build(bubblewrap.Config())
    except DistillError as error:
        status: Status = "broken" if shutil.which("bwrap") else "missing"
        yield Finding(
            name="sandbox", status=status, message=f"code cannot be judged: {error.message}", fix=error.fix or ""
        )
        return
    yield Finding(name="sandbox", status="ok", message="bubblewrap isolates: a program tried to get out and could not")
