"""The sections of the page, one file each, in the order of a run; `blocks` is what they are made of."""
