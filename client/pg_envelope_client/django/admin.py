"""The admin's pages of models with encrypted fields."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin

from pg_envelope_client.django.fields import EncryptedField


class EncryptedAdmin(ModelAdmin):
    """The list offers no order by encrypted fields. For search_fields write the lookup: `email__exact`."""

    def get_sortable_by(self, request: Any) -> list[Any]:
        encrypted = {field.name for field in self.opts.get_fields() if isinstance(field, EncryptedField)}
        return [name for name in super().get_sortable_by(request) if name not in encrypted]
