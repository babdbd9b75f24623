"""How griffe reads our docstrings: `Example:` is its section `Examples:`.

Without this the section would be an admonition whose `>>>` lines are quotations.
"""

import re
from typing import Any

import griffe

__all__ = ["Sections"]


class Sections(griffe.Extension):
    """Give sections the names that griffe knows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called once an object and its members were read."""
        if obj.docstring is not None:
            text = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
            obj.docstring.value = text
