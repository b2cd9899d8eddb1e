"""The pages of the application: a list, a patient, and a form."""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import path

from clinic.models import Patient, Visit


class PatientForm(forms.Form):
    name = forms.CharField(max_length=40)
    number = forms.CharField()


def patients(_: HttpRequest) -> JsonResponse:
    return JsonResponse({"patients": list(Patient.objects.order_by("name").values_list("name", "number"))})


def patient(_: HttpRequest, name: str) -> JsonResponse:
    found = get_object_or_404(Patient, name=name)
    return JsonResponse({"number": found.number, "visits": [visit.reason for visit in found.visit_set.order_by("pk")]})


def visits(_: HttpRequest) -> JsonResponse:
    found = Visit.objects.select_related("patient").order_by("pk")
    return JsonResponse({"visits": [(visit.patient.number, visit.reason) for visit in found]})


def save(request: HttpRequest) -> HttpResponse:
    """Changes the patient of this name, or adds one. It reads no number."""
    form = PatientForm(request.POST)
    if not form.is_valid():
        return HttpResponse(status=400)
    number = form.cleaned_data["number"]
    if not Patient.objects.filter(name=form.cleaned_data["name"]).update(number=number):
        Patient.objects.create(**form.cleaned_data)
    return HttpResponse(status=204)


urlpatterns = [
    path("patients/", patients),
    path("patients/<str:name>/", patient),
    path("visits/", visits),
    path("save/", save),
]
