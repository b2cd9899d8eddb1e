"""An error without CONTEXT in the server's log: PL/Python puts a Python traceback there, whatever is raised.

What a refused user did is in the message. A traceback of this package in the log says nothing to an administrator, and
makes a refusal look like a crash. The client gets CONTEXT as ever, and so does the log for what nobody foresaw.

While the server reports an error, it calls each function of the chain `error_context_stack`. The head of the chain is
PL/Python's, for the function that runs now. The server's own errhidecontext(true) is put behind it. Both leave the
chain with that function: PL/Python's handler restores the chain of before.
"""

from __future__ import annotations

from functools import cache
from typing import Any


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
    """For the error that the PL/Python function which runs now ends with."""
    chain = _chain()
    if chain is None:
        return
    import ctypes

    ChainLink, head, ours = chain
    place, first = ctypes.addressof(ours), head.contents
    found = first.previous
    # It is there already when an error of this function was caught: a second time would close the chain to a ring.
    while found and found != place:
        found = ChainLink.from_address(found).previous
    if not found:
        ours.previous, first.previous = first.previous, place
