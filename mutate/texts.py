"""Another text in the place of a query file's, for as long as something is tried with it."""

from butido_store import _query


def put(query: _query.Query, text: str) -> None:
    """Have a query, and each step that was made of it, be what another text says.

    :param query: the query
    :param text: of a query file
    """
    other = _query.parse(query.name, text, query.path)
    for field in ("types", "required", "clauses", "_written", "_tokens"):
        object.__setattr__(query, field, getattr(other, field))
    query._rendered.clear()
