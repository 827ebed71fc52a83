"""Problems and a model in, traces out. Shared by generate and eval."""

from distill.sampling.collect import collect
from distill.sampling.engine import choose, serve_command
from distill.sampling.history import Failure, Logs
from distill.sampling.plan import Wanted
from distill.sampling.queue import Identity
from distill.sampling.schedule import Rule
from distill.sampling.tally import Tally

__all__ = ["Failure", "Identity", "Logs", "Rule", "Tally", "Wanted", "choose", "collect", "serve_command"]
