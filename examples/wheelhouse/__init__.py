"""A small package builder that remembers what it did: wheels from sources, recorded in a store.

Read `plan` for what is to be built, `work` for what is asked and recorded when, `builder` for the
order of it all, `machine` for how a script runs, and `__main__` for what is shown. All that is
stored goes through the public API of `butido_store`.
"""
