"""The commands, a file each: what can be typed, what it means, and what is printed of what came out.

A command's file is imported by `distill --help`, so it imports what works and prints only once it is called.
"""
