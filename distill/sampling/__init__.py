"""Problems and a model in, traces out. Shared by generate and eval."""

from distill.sampling.collect import Failure, Tally, Wanted, collect
from distill.sampling.engine import choose, serve_command

__all__ = ["Failure", "Tally", "Wanted", "choose", "collect", "serve_command"]
