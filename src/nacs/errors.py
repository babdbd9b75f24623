"""The exceptions whose message is meant for the person at the keyboard."""

__all__ = ["DivergenceError", "UserError"]


class UserError(ValueError):
    """A mistake in what the user gave; the command line prints it and exits with 2.

    The message is one line: what was expected, what came, what would work.
    """


class DivergenceError(UserError):
    """The loss of a training is no longer finite; a search goes on without it."""
