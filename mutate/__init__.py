"""Mutation tests: which small change of the queries, or of the core, would no test notice?"""
