"""The command line: what is typed, and what is printed. Starts without torch, vLLM or even the recipes.

Read `app` first, which lists the commands; `commands/` has a file for each. `options` and `complete` are what they
take, `boundary` is how they end, `stage_command` what those that run stages do with their options: here (`stages`) or
as batch jobs (`batch`). The others print: `tables`, `scores`, `traces`, `plan_tables`, `study_tables`, …
"""

from .app import main

__all__ = ["main"]
