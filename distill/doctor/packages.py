"""Distill's own requirements as installed, and its extras."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from distill.doctor.finding import Finding, Status

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_CHECKOUT = Path(__file__).parent.parent.parent
"""Of an installed package it is the folder of all packages, which has none of the files that are looked for."""
_EXTRAS = {
    "deepspeed": "ZeRO and offload: training that does not fit on one GPU",
    "flash-attn": "packed rows on GPUs",
    "qlora": "sft.method=qlora on GPUs",
    "ray": "--on ray",
    "reasoning-gym": "its problems and its verifier",
}
"""What each extra of pyproject.toml is for; vLLM's are told with the backends."""


def probe(_: Path) -> Iterator[Finding]:
    yield Finding(name="python", status="ok", what=f"{platform.python_version()}, {sys.executable}")
    wanted = _wanted()
    core = wanted[""]
    for one in (bad := [one for one in core if not _fits(one)]):
        here = version(one.name)
        what = f"{here} is installed, {one.specifier} is needed" if here else "is not installed"
        status: Status = "broken" if here else "missing"
        yield Finding(name=one.name, status=status, what=what, fix=f"pip install '{one}'", needed=True)
    if not bad:
        yield Finding(name="packages", status="ok", what=f"all {len(core)} that distill needs{_untested(wanted)}")
    for extra, purpose in _EXTRAS.items():
        own = wanted.get(extra, [])
        absent = not all(map(_fits, own))
        held = ", ".join(f"{one.name} {version(one.name)}" for one in own)
        what = f"for {purpose}" if absent else f"{held}, for {purpose}"
        fix = f"pip install 'distill[{extra}]'" if absent else ""
        yield Finding(name=extra, status="missing" if absent else "ok", what=what, fix=fix)


def _wanted() -> dict[str, list[Requirement]]:
    """Requirements by extra, `""` being those that are no extra's.

    A checkout's pyproject.toml counts before what was installed from it: that may have been before a `git pull`.
    """
    from packaging.requirements import Requirement

    path = _CHECKOUT / "pyproject.toml"
    if path.is_file():
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        groups = {"": project["dependencies"], **project["optional-dependencies"]}
        return {extra: [Requirement(line) for line in lines] for extra, lines in groups.items()}
    found: dict[str, list[Requirement]] = {"": []}
    for one in map(Requirement, importlib.metadata.requires("distill") or []):
        extra = re.search(r"extra == [\"'](.+?)[\"']", str(one.marker or ""))
        one.marker = None
        found.setdefault(extra[1] if extra else "", []).append(one)
    return found


def _fits(one: Requirement) -> bool:
    here = version(one.name)
    return here is not None and one.specifier.contains(here, prereleases=True)


def version(package: str) -> str | None:
    """Of an installed package; None if it is not."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _untested(wanted: dict[str, list[Requirement]]) -> str:
    """Which packages are of another version than those tested together; a checkout knows, a wheel does not."""
    path = _CHECKOUT / "constraints.txt"
    if not path.is_file():
        return ""
    lines = (line.strip().partition("==") for line in path.read_text(encoding="utf-8").splitlines())
    tested = {name: pinned for name, equals, pinned in lines if equals}
    names = sorted({one.name for group in wanted.values() for one in group} & set(tested))
    here = {name: (version(name) or tested[name]).partition("+")[0] for name in names}
    other = [f"{name} {here[name]} ({tested[name]})" for name in names if here[name] != tested[name]]
    return f"; of other versions than constraints.txt: {', '.join(other)}" if other else ", as in constraints.txt"
