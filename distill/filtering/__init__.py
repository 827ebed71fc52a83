"""Traces and checks in, verdicts and a training set out.

`judge` reads a slice of a log and asks every check about each trace; `executors` runs it here, on all cores or on Ray;
`ledger` keeps the outcomes by id (small, by `packing`), and `earlier` takes over those of earlier runs that still hold.
`selection` chooses which accepted traces to train on, `training` writes them as parquet, `funnel` counts for people.
`problems` are looked up by id.
"""
