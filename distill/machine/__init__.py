"""This machine and its processes: what it has, and how work is done in processes that cannot outlive or stop this one.

`hardware` finds cores, memory and GPUs without torch. `workers` maps work over processes that end with their parent;
`killable` makes one call that may hang or grow without bound, in a process (`killable_worker`) that is killed instead.
`slurm` fills in batch scripts and submits them. `garbage` and `termination` tune this process while it samples.
"""
