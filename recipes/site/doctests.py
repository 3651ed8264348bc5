"""Examples in docstrings as blocks of code: Markdown would take their `>>>` for quotations."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>> .*\n?(?:.+\n?)*)", re.MULTILINE)  # up to the next empty line


def fenced(text: str) -> str:
    """The text of a docstring with each example in a fence.

    >>> fenced("Adds.\\n\\n>>> 1 + 1\\n2\\n\\nArgs:")
    'Adds.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```\\n\\nArgs:'
    """
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)


class Doctests(griffe.Extension):
    """Fences the examples of every docstring that is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Griffe calls it for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
