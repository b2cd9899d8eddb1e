"""Keeps the CONTEXT of an error out of the server's log, where PL/Python would put a Python traceback.

The message tells what a refused user did. A traceback of this package tells an administrator nothing, and makes a
refusal look like a crash. The client still gets the CONTEXT, and so does the log for errors that nobody foresaw.

While the server reports an error, it calls each function of the chain `error_context_stack`. The head of the chain
belongs to PL/Python, for the function that runs now. This module puts the server's own errhidecontext(true) behind the
head. Both leave the chain with that function, because PL/Python's handler restores the older chain.
"""

from __future__ import annotations

from functools import cache

from pg_envelope.typed import Any


@cache
def _chain() -> tuple[Any, Any, Any] | None:
    """The type of a link, the head of the chain, and this session's link; None outside a server."""
    import ctypes

    class ChainLink(ctypes.Structure):
        """ErrorContextCallback in utils/elog.h; `arg` is the argument of errhidecontext."""

        _fields_ = (("previous", ctypes.c_void_p), ("callback", ctypes.c_void_p), ("arg", ctypes.c_void_p))

    library = ctypes.CDLL(None)
    try:
        head = ctypes.POINTER(ChainLink).in_dll(library, "error_context_stack")
    except ValueError:
        return None
    return ChainLink, head, ChainLink(None, ctypes.cast(library.errhidecontext, ctypes.c_void_p).value, 1)


def hide_context() -> None:
    """Hides the CONTEXT of the error with which the PL/Python function that runs now ends."""
    chain = _chain()
    if chain is None:
        return
    import ctypes

    ChainLink, head, ours = chain
    place, first = ctypes.addressof(ours), head.contents
    found = first.previous
    # The link is in the chain already when an error of this function was caught before. A second insertion would make
    # the chain a ring.
    while found and found != place:
        found = ChainLink.from_address(found).previous
    if not found:
        ours.previous, first.previous = first.previous, place
