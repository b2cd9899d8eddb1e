from django.contrib import admin

from pg_envelope_client.django.admin import EncryptedAdmin
from shop.models import Item, SealedCustomer


@admin.register(SealedCustomer)
class CustomerAdmin(EncryptedAdmin):
    list_display = ("login", "email")
    search_fields = ("login", "email__exact")
    fields = ("login", "name", "email", "born")


admin.site.register(Item)
