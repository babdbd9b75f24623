"""The command line: `nacs VERB`, a file of `nacs.verbs` each.

torch is imported by the verbs, not here, so that `nacs --help` is quick.
"""

import codecs
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper

__all__ = ["main"]

VERBS = {
    "train": "train a model on a data set and leave a run folder",
    "tune": "search for the settings of a model by its validation figures",
    "evaluate": "measure a trained run on its test split",
    "predict": "class probabilities for files, as CSV or JSON",
    "prune": "drop modules or edges of a trained run and save the smaller one",
    "export": "write a trained run as one file that runs without nacs",
    "describe": "configuration, parameters, multiply-adds and density",
    "view": "look into a run in the browser",
    "data": "list the data sets known by name",
    "reproduce": "do a table or figure of the paper again",
    "demo": "train, evaluate and shrink a circuit on real digits",
}

USAGE = """usage: nacs VERB ...

Attentive and neuronal circuits: train, shrink, look into and deploy.

verbs:
{verbs}

examples:
  nacs demo
  nacs train mnist-5k --preset demo --out runs/mnist
  nacs prune runs/mnist --keep 0.2 --out runs/mnist-small
  nacs predict runs/mnist-small digit.png

Every verb has --help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, or 2 for a mistake in the input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in {"-h", "--help"}:
        width = max(map(len, VERBS))
        rows = (f"  {verb.ljust(width)}  {text}" for verb, text in VERBS.items())
        print(USAGE.format(verbs="\n".join(rows)))
        return 0 if given else 2
    if given[0] == "--version":
        from nacs import __version__

        print(__version__)
        return 0
    verb, *rest = given
    if verb not in VERBS:
        return _fail(f"there is no verb '{verb}'; verbs: {', '.join(VERBS)}.")
    # Threads that wait for each other by spinning take a busy machine's time from
    # whom they wait for; OpenMP reads this once, before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if arguments is None:  # the process is ours
        from nacs.pages import keep_pages

        keep_pages()
    codecs.register_error("nacs", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="nacs")
    try:
        run: Callable[[list[str]], None] = import_module(f"nacs.verbs.{verb}").run
        run(rest)
    except ValueError as error:  # a UserError, or what a library refuses
        return _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}.")
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on where it can.")
    return 0


def _spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    """What the locale has no letters for: a file's name as it was, or its numbers."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


def _fail(message: str) -> int:
    print(f"nacs: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
