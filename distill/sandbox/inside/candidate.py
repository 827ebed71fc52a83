"""Runs inside a sandbox: the program under test, whose functions are called one line at a time.

It never sees a test, only the arguments of each call. Whatever the program does to this process, all it can change is
the data in its own replies.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import types
from typing import Any

from distill.sandbox.inside import wire


def main(path: str) -> None:
    asked, told = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(nowhere, fd)
    module = types.ModuleType("program")
    sys.modules["program"] = module
    reply = _load(path, module)
    while line := wire.read_line(asked):
        if reply is None:
            try:
                wanted = json.loads(line)
                answer = _get(module, wanted["get"]) if "get" in wanted else _call(module, wanted)
            except RecursionError:
                answer = {"value": ["o", "recursion"]}
            wire.write_line(told, json.dumps(answer).encode())
        else:
            wire.write_line(told, json.dumps(reply).encode())


def _load(path: str, module: types.ModuleType) -> dict[str, Any] | None:
    """Run the program's text; the reply to everything if it cannot be run."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        code = compile(text, "program.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"broken": "syntax_error", "text": f"{error}"[:200]}
    try:
        exec(code, module.__dict__)  # noqa: S102  this is what the sandbox is for
    except BaseException as error:  # noqa: BLE001  a named boundary: the program may raise anything at all
        return {"broken": "runtime_error", "text": f"{type(error).__name__}: {error}"[:200]}
    return None


def _get(module: types.ModuleType, name: str) -> dict[str, Any]:
    if name not in module.__dict__:
        return {"missing": name}
    value = module.__dict__[name]
    if isinstance(value, type):
        return {"class": name}
    return {"function": name} if builtins.callable(value) else {"value": wire.encode(value)}


def _call(module: types.ModuleType, wanted: dict[str, Any]) -> dict[str, Any]:
    args, kwargs = wire.decode(wanted["args"]), wire.decode(wanted["kwargs"])
    try:
        value = module.__dict__[wanted["call"]](*args, **kwargs)
        sent = wire.encode(value)
    except BaseException as error:  # noqa: BLE001  a named boundary: the program may raise anything at all
        return {"raise": type(error).__name__, "text": f"{error}"[:200]}
    left = wire.encode([args, kwargs])
    return {"value": sent} if left == ["l", wanted["args"], wanted["kwargs"]] else {"value": sent, "left": left}


if __name__ == "__main__":
    main(sys.argv[1])
