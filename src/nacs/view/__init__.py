"""The explorer: a run as one JSON document, and the page that shows it.

run folder → look.Viewed → JSON → server.app   a local server and its page
                                → page.inlined one file that needs no server
"""

from nacs.view.look import Viewed

__all__ = ["Viewed"]
