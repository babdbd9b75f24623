"""The one exception whose message is meant for the person at the keyboard."""

__all__ = ["UserError"]


class UserError(ValueError):
    """A mistake in what the user gave; the command line prints it and exits with 2.

    The message is one line: what was expected, what came, what would work.
    """
