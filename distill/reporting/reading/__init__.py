"""What the page tells of a run, read once: `gather` reads each log in one pass and keeps few numbers a row.

`token_use` is what became of traces and their tokens, `rates` how often the teacher solves each problem, `curves` the
values of metrics.jsonl, thinned out.
"""
