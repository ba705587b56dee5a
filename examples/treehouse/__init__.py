"""A builder in asyncio: a tree of C objects, from its leaves down to the trunk, none made twice.

Read `plan` for what is to be built, `work` for how a target becomes a recorded job, and `__main__`
for the order of a run and what is shown of it.
"""
