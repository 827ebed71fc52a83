"""What a program is judged by: tests on its input and output, or assertions, run in a sandbox.

`gold` reads the tests that a gold holds and the program in an answer; `output_tests` and `assert_tests` run them.
"""
