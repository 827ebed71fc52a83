"""Distill's own requirements as installed, and its extras."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from distill.doctor.finding import Finding, Status
from distill.resources import folder

_PACKAGE = "distill"
_EXTRAS = {
    "deepspeed": "ZeRO and offload: training that does not fit on one GPU",
    "flash-attn": "packed rows on GPUs",
    "qlora": "sft.method=qlora on GPUs",
    "ray": "--on ray",
    "reasoning-gym": "its problems and its verifier",
}
"""What each extra of pyproject.toml is for; vLLM's are told with the backends."""


def probe(_: Path) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    yield Finding(name="python", status="ok", what=f"{platform.python_version()}, {sys.executable}")
    try:
        wanted = [Requirement(line) for line in importlib.metadata.requires(_PACKAGE) or []]
    except importlib.metadata.PackageNotFoundError:
        fix = "pip install -c constraints.txt -e . in the checkout"
        yield Finding(name=_PACKAGE, status="broken", what="is on the path but not installed", fix=fix)
        return
    core = [one for one in wanted if not one.marker or one.marker.evaluate({"extra": ""})]
    bad = [one for one in core if not one.specifier.contains(version(one.name) or "", prereleases=True)]
    for one in bad:
        here, asked = version(one.name), str(one).partition(";")[0].strip()
        what = f"{here} is installed, {one.specifier} is needed" if here else "is not installed"
        status: Status = "broken" if here else "missing"
        yield Finding(name=one.name, status=status, what=what, fix=f"pip install '{asked}'", needed=True)
    if not bad:
        yield Finding(name="packages", status="ok", what=f"all {len(core)} that distill needs{_untested(wanted)}")
    for extra, purpose in _EXTRAS.items():
        own = [one for one in wanted if one.marker and one.marker.evaluate({"extra": extra}) and one not in core]
        absent = [one.name for one in own if not one.specifier.contains(version(one.name) or "", prereleases=True)]
        held = ", ".join(f"{one.name} {version(one.name)}" for one in own)
        fix = f"pip install 'distill[{extra}]'" if absent else ""
        what = f"for {purpose}" if absent else f"{held}, for {purpose}"
        yield Finding(name=extra, status="missing" if absent else "ok", what=what, fix=fix)


def version(package: str) -> str | None:
    """Of an installed package; None if it is not."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _untested(wanted: Iterable[Any]) -> str:
    """Which of the packages are of another version than those tested together; a checkout knows, a wheel does not."""
    path = folder("recipes").parent / "constraints.txt"
    if not path.is_file():
        return ""
    lines = (line.strip().partition("==") for line in path.read_text(encoding="utf-8").splitlines())
    tested = {name.lower(): pinned for name, equals, pinned in lines if equals}
    here = {one.name.lower(): (version(one.name) or "").partition("+")[0] for one in wanted}
    names = [name for name, own in sorted(here.items()) if own and tested.get(name, own) != own]
    other = [f"{name} {here[name]} ({tested[name]})" for name in names]
    return f"; other versions than constraints.txt: {', '.join(other)}" if other else ", as in constraints.txt"
