"""distill: turn a large reasoning model into small ones that reason."""

__version__ = "0.1.0"
