"""What a view cannot do, and a statement with parameters."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import features


class DatabaseFeatures(features.DatabaseFeatures):
    @property
    def max_query_params(self) -> int | None:
        """The protocol counts the parameters of a statement in 16 bits."""
        return 2**16 - 1 if self.uses_server_side_binding else None

    def allows_group_by_selected_pks_on_model(self, model: Any) -> bool:
        """A view has no primary key that would stand for the other columns in GROUP BY."""
        allowed: bool = super().allows_group_by_selected_pks_on_model(model)
        return allowed and self.connection.protected_table(model._meta.db_table) is None
