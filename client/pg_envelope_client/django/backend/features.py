"""What a view cannot do."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import features


class DatabaseFeatures(features.DatabaseFeatures):
    def allows_group_by_selected_pks_on_model(self, model: Any) -> bool:
        """A view has no primary key that would stand for the other columns in GROUP BY."""
        allowed: bool = super().allows_group_by_selected_pks_on_model(model)
        return allowed and self.connection.protected_table(model._meta.db_table) is None
