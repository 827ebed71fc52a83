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
    yield Finding(name="python", status="ok", message=f"{platform.python_version()}, {sys.executable}")
    requirements = _requirements()
    core = requirements[""]
    unfit = [requirement for requirement in core if not _fits(requirement)]
    for requirement in unfit:
        status: Status = "missing"
        message = "is not installed"
        if installed := version(requirement.name):
            status = "broken"
            message = f"{installed} is installed, {requirement.specifier} is needed"
        fix = f"pip install '{requirement}'"
        yield Finding(name=requirement.name, status=status, message=message, fix=fix, needed=True)
    if not unfit:
        yield Finding(
            name="packages", status="ok", message=f"all {len(core)} that distill needs{_untested(requirements)}"
        )
    for extra, purpose in _EXTRAS.items():
        extra_requirements = requirements.get(extra, [])
        if all(map(_fits, extra_requirements)):
            versions = ", ".join(f"{package.name} {version(package.name)}" for package in extra_requirements)
            yield Finding(name=extra, status="ok", message=f"{versions}, for {purpose}")
        else:
            fix = f"pip install 'distill[{extra}]'"
            yield Finding(name=extra, status="missing", message=f"for {purpose}", fix=fix)


def _requirements() -> dict[str, list[Requirement]]:
    """Requirements by extra, `""` being those that are no extra's.

    A checkout's pyproject.toml counts before what was installed from it: that may have been before a `git pull`.
    """
    from packaging.requirements import Requirement

    path = _CHECKOUT / "pyproject.toml"
    if path.is_file():
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        groups = {"": project["dependencies"], **project["optional-dependencies"]}
        return {extra: [Requirement(line) for line in lines] for extra, lines in groups.items()}
    by_extra: dict[str, list[Requirement]] = {"": []}
    for requirement in map(Requirement, importlib.metadata.requires("distill") or []):
        extra = re.search(r"extra == [\"'](.+?)[\"']", str(requirement.marker or ""))
        requirement.marker = None
        by_extra.setdefault(extra[1] if extra else "", []).append(requirement)
    return by_extra


def _fits(requirement: Requirement) -> bool:
    installed = version(requirement.name)
    return installed is not None and requirement.specifier.contains(installed, prereleases=True)


def version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _untested(requirements: dict[str, list[Requirement]]) -> str:
    """Which packages are of another version than those tested together; a checkout knows, a wheel does not."""
    path = _CHECKOUT / "constraints.txt"
    if not path.is_file():
        return ""
    lines = (line.strip().partition("==") for line in path.read_text(encoding="utf-8").splitlines())
    tested = {name: pinned for name, equals, pinned in lines if equals}
    names = sorted({requirement.name for group in requirements.values() for requirement in group} & set(tested))
    installed = {name: (version(name) or tested[name]).partition("+")[0] for name in names}
    differing = [f"{name} {installed[name]} ({tested[name]})" for name in names if installed[name] != tested[name]]
    if differing:
        return f"; of other versions than constraints.txt: {', '.join(differing)}"
    return ", as in constraints.txt"
