"""An envelope that a query carries together with its row key, so that it can be opened wherever the row is read."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.ext.compiler import compiles


class CarriedEnvelope(ColumnElement[Any]):
    """Made while a statement is compiled, in the place of a column that it reads."""

    inherit_cache = False

    def __init__(self, column: Any) -> None:
        self.column, self.type = column, column.type


@compiles(CarriedEnvelope)
def _carried(element: CarriedEnvelope, compiler: Any, **options: Any) -> str:
    """The compiler of an engine that has keys writes the array; any other one shows the column."""
    carry = getattr(compiler, "carry", None)
    text: str = compiler.process(element.column, **options) if carry is None else carry(element, **options)
    return text
