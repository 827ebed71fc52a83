"""This machine and its processes: what it has, and how work is done in processes that cannot outlive or stop this one.

`hardware` finds cores, memory and GPUs without torch. `slurm` fills in batch scripts and submits them. `garbage` and
`termination` tune this process while it samples. Of child processes there are these kinds, all started as `children`
says:

- `workers`: many items of work on all cores; a pool whose processes may die, pickling what they take and give.
- `killable`: one call at a time that may hang, crash or grow without bound; it is killed, and only that call is lost.
  Its far end is `killable_worker`.
- `guarded`: a foreign program that starts processes of its own, such as a model server; all end with this one.
- `children.run_module`: one step that is heavy or may crash, with a time limit; its answer is what it prints.
- `children.function_command`: a process of ours on sockets or pipes of its owner, such as those that grade answers
  while an event loop must not wait.
- `children.spawned`: a long job with pickled arguments, such as one run of a study.
"""
