"""Problems and a model in, traces out; generate and eval share it.

Read `collect` first, the loop. `plan` says what a run is to do, `schedule` when a problem has enough samples, `queue`
what to ask next, given the `history` of earlier runs. `engine` chooses the backend and `preflight` tries it; `assemble`
makes traces of completions, `grading` grades them in processes of its own, `writers` and `journal` put them on disk.
`tally`, `speed`, `price` and `forecast` say what it costs.
"""

from distill.sampling.collect import collect
from distill.sampling.engine import choose_backend, serve_command
from distill.sampling.history import Logs, RefusedAttempt
from distill.sampling.plan import SamplingJob
from distill.sampling.queue import Identity
from distill.sampling.schedule import StoppingRule
from distill.sampling.tally import Tally

__all__ = [
    "Identity",
    "Logs",
    "RefusedAttempt",
    "SamplingJob",
    "StoppingRule",
    "Tally",
    "choose_backend",
    "collect",
    "serve_command",
]
