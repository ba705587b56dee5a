"""Secrets: variables whose values leave the builder only as keyed digests.

Which ones they are is known to the store that runs a statement, not where the statement is made. So
whatever has a part of an environment is a parameter of its own kind, `Concealing`, until then.
"""

import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from butido_store import _check
from butido_store._check import json_text
from butido_store.errors import InvalidInput

PATTERNS = ("*TOKEN*", "*PASSWORD*", "*SECRET*")
# Where programs look for a key, and for patterns with blanks between them.
KEY_FILE, PATTERNS_VARIABLE = "BUTIDO_STORE_SECRET_KEY_FILE", "BUTIDO_STORE_SECRET_PATTERNS"
_SHORTEST = 16


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Which environment variables are secrets, by their names, and the key of their digests.

    The value of a secret is stored as an HMAC-SHA256: equal values stay equal, so that a build with
    the same secret is the same build, but nobody can read one back. `patterns` are those of file
    names, `*TOKEN*` for instance, and take upper and lower case for the same; without any, nothing
    is a secret. With another key, or without one, what was built with secrets is not found again.

    Without a key a statement with a secret is refused, when it is run.
    """

    key: bytes | None = None
    patterns: tuple[str, ...] = PATTERNS

    def __post_init__(self) -> None:
        """Refuse what cannot be a key or a pattern.

        :raises InvalidInput: it names the field, and shows nothing of a key
        """
        key = _check.given(_bytes, "key", self.key)
        if key is not None and len(key) < _SHORTEST:
            raise InvalidInput(f"key has {len(key)} bytes; it must have {_SHORTEST} or more")
        patterns = _check.each("patterns", self.patterns)
        checked = (_check.text(f"patterns[{place}]", one) for place, one in enumerate(patterns))
        object.__setattr__(self, "patterns", tuple(checked))

    def __repr__(self) -> str:
        """Say whether there is a key, and never which."""
        return f"<Secrets {' '.join(self.patterns)}, {'a' if self.key else 'no'} key>"

    @classmethod
    def from_file(
        cls, file: str | os.PathLike[str], *, patterns: tuple[str, ...] = PATTERNS
    ) -> Self:
        """Take the key from a file, all of it but a line break at its end.

        :param file: where it is
        :param patterns: of the names of secrets
        :raises InvalidInput: it cannot be read, or has no key
        """
        try:
            key = Path(file).read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"key: {os.fspath(file)} cannot be read: {error.strerror}"
            ) from error
        return cls(key.removesuffix(b"\n").removesuffix(b"\r"), patterns)

    @classmethod
    def from_environment(cls) -> Self:
        """Take the key from the file that BUTIDO_STORE_SECRET_KEY_FILE names, as a program does.

        BUTIDO_STORE_SECRET_PATTERNS has the patterns, with blanks between them, where they are
        others than these.

        :raises InvalidInput: the file cannot be read, or has no key
        """
        given = os.environ.get(PATTERNS_VARIABLE)
        patterns = PATTERNS if given is None else tuple(given.split())
        file = os.environ.get(KEY_FILE)
        try:
            return cls.from_file(file, patterns=patterns) if file else cls(patterns=patterns)
        except InvalidInput as error:
            variables = f"{KEY_FILE}, {PATTERNS_VARIABLE}"
            raise InvalidInput(f"{variables}: {error}") from error

    def hides(self, name: str) -> bool:
        """Tell whether the variable of this name is a secret.

        :param name: of the variable
        """
        return bool(_hidden(self.patterns, (name,)))

    def digest(self, name: str, value: str) -> bytes:
        """Return what is stored of a secret: the HMAC-SHA256 of `NAME=VALUE`, 32 bytes.

        In psql a secret is asked for by `NAME:` and this in hexadecimal.

        :param name: of the variable
        :param value: its value
        :raises InvalidInput: there is no key
        """
        if self.key is None:
            raise InvalidInput(
                f"env has {name!r}, a secret by its name, and there is no key for its digest: give "
                f"one, secrets=Secrets(key) or {KEY_FILE}; or say that no variable is a secret, "
                f"secrets=Secrets(patterns=()) or {PATTERNS_VARIABLE}=''"
            )
        # No name has a "=", so that no other pair is this text.
        return hmac.digest(self.key, f"{name}={value}".encode(), "sha256")


def _bytes(field: str, value: object) -> bytes:
    return _check.instance(field, value, bytes)


@lru_cache
def _expression(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or r"(?!)", re.IGNORECASE)


# The same names come with every job, and are not matched again.
@lru_cache(maxsize=1024)
def _hidden(patterns: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if _expression(patterns).match(name))


NO_KEY = Secrets()


class Concealing:
    """A parameter that may have secrets: only what `told` returns of it is sent."""

    __slots__ = ()

    def told(self, secrets: Secrets) -> object:
        """Return the parameter with digests in place of secrets.

        :raises InvalidInput: there is one, and no key
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        """Show nothing of it."""
        return f"<{type(self).__name__}>"


@dataclass(frozen=True, slots=True, order=True, repr=False)
class Environment(Concealing):
    """A whole environment, sent as JSON: `{"name": "value"}`."""

    # In clear; by it environments are equal, and have an order.
    text: str
    variables: Mapping[str, str] = field(compare=False)

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Self:
        """Take an environment that was checked."""
        return cls(json_text(variables), variables)

    def hidden(self, secrets: Secrets) -> dict[str, object]:
        """Return what stands for the value of each secret."""
        return {
            name: {"hmac_sha256": secrets.digest(name, self.variables[name]).hex()}
            for name in _hidden(secrets.patterns, tuple(self.variables))
        }

    def told(self, secrets: Secrets) -> str:
        """Return its JSON text."""
        hidden = self.hidden(secrets)
        return json_text({**self.variables, **hidden}) if hidden else self.text


@dataclass(frozen=True, slots=True, repr=False)
class Document(Concealing):
    """What is sent as JSON, with environments in it."""

    content: object

    def told(self, secrets: Secrets) -> str:
        """Return its JSON text."""

        def told(value: Any) -> dict[str, object]:
            return {**value.variables, **value.hidden(secrets)}

        return json.dumps(self.content, ensure_ascii=False, separators=(",", ":"), default=told)


@dataclass(frozen=True, slots=True, repr=False)
class Variable(Concealing):
    """A variable that is asked for, `NAME=VALUE`."""

    text: str

    def told(self, secrets: Secrets) -> str:
        """Return it as the schema's envvar_name() and envvar_value() take it."""
        name, _, value = self.text.partition("=")
        return f"{name}:{secrets.digest(name, value).hex()}" if secrets.hides(name) else self.text


@dataclass(frozen=True, slots=True, repr=False)
class Each(Concealing):
    """Several parameters in a list, of which some may have secrets."""

    content: tuple[object, ...]

    def told(self, secrets: Secrets) -> list[object]:
        """Return the list."""
        return [one.told(secrets) if isinstance(one, Concealing) else one for one in self.content]
