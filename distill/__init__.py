"""distill: turn a large reasoning model into small ones that reason.

From Python, the stages are functions (`distill/api.py` has an example of each):

    recipe = distill.load_recipe("tiny", {"generate.limit": 200})
    run = distill.generate(recipe, "runs/mine")
    distill.filter(run)
    distill.sft(run)
    distill.evaluate(run).scores()

Importing this package loads nothing; a name brings its module when it is first used.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Problem",
    "Run",
    "Score",
    "Trace",
    "Verdict",
    "evaluate",
    "filter",
    "generate",
    "grpo",
    "load_recipe",
    "publish",
    "sft",
    "verify",
]

if TYPE_CHECKING:
    from distill.api import evaluate, filter, generate, grpo, load_recipe, publish, sft, verify
    from distill.run import Run
    from distill.types import Problem, Score, Trace, Verdict
else:
    _HOMES = {"Run": "run", "Problem": "types", "Score": "types", "Trace": "types", "Verdict": "types"}

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'distill' has no attribute {name!r}")
        from importlib import import_module

        offered = getattr(import_module(f"distill.{_HOMES.get(name, 'api')}"), name)
        globals()[name] = offered
        return offered

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
