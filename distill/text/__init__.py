"""Texts as numbers, for whoever compares a million of them.

`tokens` cuts a text into words, `hashes` makes arrays of 64-bit hashes of them. `minhash` finds sets that are nearly
equal, `overlap` known problems inside a text, `shared_phrases` what the problems of one set have in common. `scripts`
knows which letters belong to which languages.
"""
