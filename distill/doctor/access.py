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
        what = "offline: HF_HUB_OFFLINE is set, so only what is in the cache can be loaded"
        yield Finding(name="Hub", status="missing", what=what, fix="unset HF_HUB_OFFLINE")
    elif not (token := get_token()):
        what = f"no login at {constants.ENDPOINT}: public models load, gated ones and publishing need one"
        yield Finding(name="Hub", status="missing", what=what, fix="hf auth login, or HF_TOKEN")
    else:
        told = child.told(["hub"], 20)["hub"]
        if "error" not in told:
            yield Finding(name="Hub", status="ok", what=f"logged in at {constants.ENDPOINT} as {told['user']}")
            return
        refused = told.get("status") in (401, 403)
        fix = "hf auth login with another token" if refused else "offline? Look at the network, the proxy, HF_ENDPOINT"
        what = f"{constants.ENDPOINT} {'refuses the token' if refused else 'cannot be asked'}: {told['error']}"
        yield Finding(name="Hub", status="broken", what=what.replace(token, "(the token)"), fix=fix)


def sandbox(_: Path) -> Iterator[Finding]:
    from distill.sandbox import bubblewrap

    try:
        bubblewrap.build(bubblewrap.Config())
    except DistillError as error:
        status: Status = "broken" if shutil.which("bwrap") else "missing"
        yield Finding(name="sandbox", status=status, what=f"code cannot be judged: {error.what}", fix=error.fix or "")
        return
    yield Finding(name="sandbox", status="ok", what="bubblewrap isolates: a program tried to get out and could not")
