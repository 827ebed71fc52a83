"""Programs that run inside a sandbox, where nothing else of distill exists: they import only one another.

`batch` runs a program on several inputs; `candidate` and `tester` are the two sides of assert tests, which speak by
`wire`; `gym` scores with reasoning-gym; `probe` tries to get out.
"""
