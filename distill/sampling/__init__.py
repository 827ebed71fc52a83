"""Problems and a model in, traces out; generate and eval share it.

Read `collect` first: it goes on from the logs, opens the engine and has its `slots` sample. `plan` says what a run is
to do, `schedule` when a problem has enough samples, `queue` what to ask next, given the `history` of earlier runs.
`engine` chooses the backend and `preflight` tries it; `request` asks for a completion, `assemble` makes a trace of
what came, and `grading` grades it in a process of its own. `recorder` settles what is known of a problem, `writers`
and `journal` put it on disk, `live` shows it. `tally`, `speed`, `price` and `forecast` say what it costs.
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
