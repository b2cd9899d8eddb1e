"""Normalises telephone numbers to E.164. This is the only module that knows phonenumbers, Google's libphonenumber."""

from __future__ import annotations

from types import ModuleType

from pg_envelope import errors

INSTALL = "For the server: make install EXTRAS=\"phone\". For an application: pip install 'pg-envelope[phone]'."


def check(region: str) -> None:
    """Raises BadInput for a region that has no telephone numbers, and Unsupported without the library."""
    numbers = _library()
    if region not in numbers.SUPPORTED_REGIONS:
        raise errors.BadInput(
            f"normaliser phone-{region}: there is no such region",
            hint="Regions are those of ISO 3166: phone-DE, phone-US.",
        )


def e164(value: str, region: str) -> str:
    """Returns the number with its country code: `+493012345`. A text that is no number stays, but for blanks around it.

    `region` is the country that a number without a country code belongs to.
    """
    numbers = _library()
    try:
        found = numbers.parse(value, region)
    except numbers.NumberParseException:
        return value.strip()
    if not numbers.is_possible_number(found):
        return value.strip()
    extension = f";ext={found.extension}" if found.extension else ""
    return f"{numbers.format_number(found, numbers.PhoneNumberFormat.E164)}{extension}"


def _library() -> ModuleType:
    try:
        import phonenumbers
    except ImportError:
        raise errors.Unsupported("the package phonenumbers is not installed", hint=INSTALL) from None
    return phonenumbers
