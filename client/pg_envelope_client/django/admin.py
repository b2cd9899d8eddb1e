"""The admin's pages of models with encrypted fields."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.options import IncorrectLookupParameters

from pg_envelope_client.django.fields import EncryptedField, EncryptedLookupError


class EncryptedAdmin(ModelAdmin):
    """The list offers no order by encrypted fields. For search_fields write the lookup: `email__exact`.

    An address that asks for what an encrypted field cannot do shows the whole list, and a message that says why.
    """

    def get_sortable_by(self, request: Any) -> list[Any]:
        encrypted = {field.name for field in self.opts.get_fields() if isinstance(field, EncryptedField)}
        return [name for name in super().get_sortable_by(request) if name not in encrypted]

    def get_changelist_instance(self, request: Any) -> Any:
        try:
            found = super().get_changelist_instance(request)
            # The query runs here, while its error can still be told. The page shows the rows of this run.
            len(found.result_list)
        except (EncryptedLookupError, IncorrectLookupParameters) as error:
            cause = error if isinstance(error, EncryptedLookupError) else next(iter(error.args), None)
            if not request.GET or not isinstance(cause, EncryptedLookupError):
                # Nothing in the address asks for it, so the class of the admin does: its author must see the error.
                raise
            self.message_user(request, str(cause), messages.ERROR)
            raise IncorrectLookupParameters from None
        return found
