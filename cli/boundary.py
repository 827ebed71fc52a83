"""How a command ends: the one place where errors become a message and an exit status."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

P = ParamSpec("P")


def at_boundary(command: Callable[P, None]) -> Callable[P, None]:
    """The command at the boundary: an error of ours is one short message and its exit status; any other is a bug."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        from distill.errors import DistillError, Stopped

        debug = bool(os.environ.get("DISTILL_DEBUG"))
        try:
            command(*args, **kwargs)
        except typer.Exit:  # a status of the command's own
            raise
        except Stopped as stopped:
            typer.echo(str(stopped), err=True)
        except DistillError as error:
            if debug:
                raise
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            _fail("stopped; everything finished so far is saved, and the same command goes on from there", 1)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except ImportError as error:
            if debug:
                raise
            _fail(f"a package is missing or does not fit: {error}\n  → `distill doctor` says which, and what to do", 1)
        except Exception as error:  # the last boundary: a bug must not look like a wrong input
            if debug:
                raise
            _fail(f"internal error: {type(error).__name__}: {error}\n  → run `distill --debug …` for the traceback", 1)

    return guarded


def _fail(message: str, status: int) -> None:
    logging.getLogger("distill").debug("failed: %s", message)
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(message, err=True)
    raise typer.Exit(status)
