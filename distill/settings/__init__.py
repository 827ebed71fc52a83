"""What is common to all settings, whichever Config holds them.

`meanings` tells what a setting means, from the text below its field; `overrides` reads `--set a.b=value` and puts
values into plain data; `identity` says which settings can change a result, for fingerprints.
"""
