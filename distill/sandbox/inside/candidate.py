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
from typing import TypedDict

from distill.sandbox.inside import wire


class ProgramCall(TypedDict):
    """A call of one of the program's functions, its arguments as `wire` encodes them."""

    call: str
    args: object
    kwargs: object


def main(path: str) -> None:
    requests_fd = os.dup(0)
    replies_fd = os.dup(1)
    devnull = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(devnull, fd)
    module = types.ModuleType("program")
    sys.modules["program"] = module
    load_failure = _load(path, module)
    while line := wire.read_line(requests_fd):
        reply = load_failure
        if reply is None:
            try:
                request = json.loads(line)
                reply = _get(module, request["get"]) if "get" in request else _call(module, request)
            except RecursionError:
                reply = {"value": ["o", "recursion"]}
        wire.write_line(replies_fd, json.dumps(reply).encode())


def _load(path: str, module: types.ModuleType) -> dict[str, object] | None:
    """Run the program's text; returns the reply to every request if it cannot be run."""
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


def _get(module: types.ModuleType, name: str) -> dict[str, object]:
    if name not in module.__dict__:
        return {"missing": name}
    value = module.__dict__[name]
    if isinstance(value, type):
        return {"class": name}
    if builtins.callable(value):
        return {"function": name}
    return {"value": wire.encode(value)}


def _call(module: types.ModuleType, request: ProgramCall) -> dict[str, object]:
    args = wire.decode(request["args"])
    kwargs = wire.decode(request["kwargs"])
    try:
        value = module.__dict__[request["call"]](*args, **kwargs)
        sent_value = wire.encode(value)
    except BaseException as error:  # noqa: BLE001  a named boundary: the program may raise anything at all
        return {"raise": type(error).__name__, "text": f"{error}"[:200]}
    left_arguments = wire.encode([args, kwargs])
    if left_arguments == ["l", request["args"], request["kwargs"]]:
        return {"value": sent_value}
    return {"value": sent_value, "left": left_arguments}


if __name__ == "__main__":
    main(sys.argv[1])
