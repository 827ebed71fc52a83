"""What a training job takes before it is started: memory, a strategy that fits, hours, cost and launch files.

`setup` is one way to spread a job over devices, `memory` what it holds there, `choose` the fastest that fits,
`duration` how long it takes; `files` and `launch` write what starts it.
"""
