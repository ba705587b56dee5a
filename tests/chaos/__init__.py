"""Breaks servers, links, poolers and clients at random, and holds what was told against what is.

`./dev chaos` runs it; `python -m chaos --help`, with `tests` on the path, says what it takes.
"""
