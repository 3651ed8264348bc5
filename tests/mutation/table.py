"""What a guard is: a line of the package that could be taken out, and the test that must then fail."""

from collections.abc import Iterator
from typing import NamedTuple


class Mutation(NamedTuple):
    """One guard taken out.

    Attributes:
        file: in wavediff/.
        snippet: of it, which occurs once.
        replacement: what stands in its place when the guard is out.
        tests: file in tests/.
        name: of the test or tests there, or how it begins.
    """

    file: str
    snippet: str
    replacement: str
    tests: str
    name: str

    def applied(self, source: str) -> str:
        """The source without the guard.

        Raises:
            ValueError: the snippet does not occur exactly once.
        """
        if (count := source.count(self.snippet)) != 1:
            raise ValueError(f"wavediff/{self.file}: {self.snippet!r} occurs {count} times, not once")
        return source.replace(self.snippet, self.replacement)


class Guards(NamedTuple):
    """Guards of one file that one file of tests holds.

    Attributes:
        file: in wavediff/.
        tests: file in tests/.
        guards: snippet -> name of the test, or that and the replacement; a condition becomes false by default.
    """

    file: str
    tests: str
    guards: dict[str, str | tuple[str, str]]

    def mutations(self) -> Iterator[Mutation]:
        """Each of them."""
        for snippet, entry in self.guards.items():
            name, replacement = (entry, _never(snippet)) if isinstance(entry, str) else entry
            yield Mutation(self.file, snippet, replacement, self.tests, name)


def _never(condition: str) -> str:
    word, _, rest = condition.partition(" ")
    if word not in ("if", "elif") or not rest.endswith(":"):
        raise ValueError(f"{condition!r} is no condition; say what takes its place")
    return f"{word} False:"


def all_mutations() -> list[Mutation]:
    """The whole table."""
    import kinds
    import reading
    import working

    tables = [
        reading.AUDIO,
        reading.ARGUMENTS,
        reading.MEL,
        reading.MODELS,
        kinds.KINDS,
        working.FILES,
        working.CORPORA,
        working.BULK,
    ]
    tables += [working.SERVICE, working.HUB, working.TRAINING, working.SAMPLING, working.MACHINE]
    return [mutation for table in tables for guards in table for mutation in guards.mutations()]
