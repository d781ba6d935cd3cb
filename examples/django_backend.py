"""A shop on Django whose pictures Blipline describes, over HTTP.

    pip install django httpx standardwebhooks
    export BLIPLINE_GATEWAY=http://127.0.0.1:8000
    export BLIPLINE_API_KEY=blip_…            # blipline keys create shop
    export BLIPLINE_WEBHOOK_SECRET=whsec_…    # blipline keys webhook-secret shop
    export SITE_URL=http://127.0.0.1:8001     # where the gateway reaches this site
    python django_backend.py runserver 8001

    curl localhost:8001/products -F picture=@cat.jpg
    curl localhost:8001/products -F picture_url=https://example.com/cat.jpg
    curl localhost:8001/products/<id>

A gateway sends webhooks to public addresses alone. To try it on one machine, start the gateway
with BLIPLINE_WEBHOOK_ALLOW=127.0.0.1. It is one file to be read in one go: the parts are headed by
the files that they would stand in.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from typing import Any

import django
import httpx
from django.conf import settings
from django.core.management import execute_from_command_line
from django.db import connection, models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from standardwebhooks import Webhook, WebhookVerificationError

# settings.py

settings.configure(
    DEBUG=True,
    SECRET_KEY="for trying it out",
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}},
    SITE_URL=os.environ["SITE_URL"],
    BLIPLINE_GATEWAY=os.environ["BLIPLINE_GATEWAY"],
    BLIPLINE_API_KEY=os.environ["BLIPLINE_API_KEY"],
    BLIPLINE_WEBHOOK_SECRET=os.environ["BLIPLINE_WEBHOOK_SECRET"],
)
django.setup()

# models.py


class Product(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    status = models.CharField(max_length=16, default="waiting")
    description = models.TextField(default="")
    error = models.TextField(default="")

    class Meta:
        app_label = "shop"

    def to_json(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "status": self.status,
            "description": self.description or None,
            "error": self.error or None,
        }


# blipline.py

#: How often Blipline is asked, and for how many seconds is waited in between at most: our own
#: user waits as well.
TRIES, LONGEST_PAUSE_S = 4, 5.0

#: One for all threads: it keeps connections open.
blipline = httpx.Client(
    base_url=settings.BLIPLINE_GATEWAY,
    headers={"Authorization": f"Bearer {settings.BLIPLINE_API_KEY}"},
    timeout=30,
)
webhook = Webhook(settings.BLIPLINE_WEBHOOK_SECRET)


class Refused(Exception):
    """Blipline does not take it."""

    def __init__(self, detail: str, status: int, headers: dict[str, str]) -> None:
        super().__init__(detail)
        self.answer = JsonResponse({"detail": detail}, status=status, headers=headers)


def ask(method: str, path: str, **asked: Any) -> Any:
    """Ask Blipline, a few times if it is busy or away.

    A PUT under an id of our own may be repeated: it is one job, however often it arrives.
    """
    pause_s = 1.0
    for _ in range(TRIES):
        try:
            answer = blipline.request(method, path, **asked)
        except httpx.TransportError:
            pause_s = 1.0
        else:
            if answer.status_code in (413, 422):  # what our user gave is wrong
                raise Refused(answer.json()["detail"], 422, {})
            if answer.status_code not in (429, 502, 503, 504):
                return answer.raise_for_status().json()
            pause_s = float(answer.headers.get("Retry-After", 1))
        if pause_s > LONGEST_PAUSE_S:
            break
        time.sleep(pause_s)
    raise Refused("come back later", 503, {"Retry-After": f"{pause_s:.0f}"})


def update(job: dict[str, Any]) -> None:
    """Take over how a job ended. Told twice is no harm: the same webhook may come again."""
    if job["status"] not in ("queued", "running"):
        Product.objects.filter(id=job["id"]).update(
            status=job["status"],
            description=(job["output"] or {}).get("text") or "",
            error=(job["error"] or {}).get("message") or "",
        )


# views.py


@require_http_methods(["GET", "POST"])
def products(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        return JsonResponse([one.to_json() for one in Product.objects.all()], safe=False)
    try:
        return add(request)
    except Refused as refused:
        return refused.answer


def add(request: HttpRequest) -> HttpResponse:
    if picture := request.FILES.get("picture"):
        image = ask("POST", "/v1/images", content=picture.read())["image"]
    else:
        image = request.POST.get("picture_url", "")
        if not image.startswith(("https://", "http://")):
            raise Refused("a product needs a picture, or a picture_url of the web", 422, {})
    # Before it is submitted: the webhook may be faster than the answer to the submission.
    product = Product.objects.create()
    job = {"task": "caption", "image": image, "webhook": settings.SITE_URL + reverse(told)}
    try:
        update(ask("PUT", f"/v1/jobs/{product.id}", json=job))
    except Refused:
        product.delete()
        raise
    product.refresh_from_db()
    return JsonResponse(product.to_json(), status=201)


@require_GET
def show(request: HttpRequest, product_id: uuid.UUID) -> HttpResponse:
    product = get_object_or_404(Product, id=product_id)
    if product.status == "waiting":
        try:
            # Asking as well as being told: a webhook may be late, or be lost for good.
            update(ask("GET", f"/v1/jobs/{product_id}"))
        except Refused as refused:
            return refused.answer
        product.refresh_from_db()
    return JsonResponse(product.to_json())


@csrf_exempt  # what shows who it is from is its signature
@require_POST
def told(request: HttpRequest) -> HttpResponse:
    try:
        event = webhook.verify(request.body, dict(request.headers))
    except (WebhookVerificationError, ValueError):  # ValueError: not even of a signature's form
        return HttpResponse("that is not Blipline's signature", status=401)
    update(event["data"])
    return HttpResponse(status=204)


# urls.py

urlpatterns = [
    path("products", products),
    path("products/<uuid:product_id>", show),
    path("webhooks/blipline", told),
]

# manage.py

if __name__ == "__main__":
    if "shop_product" not in connection.introspection.table_names():
        # A project has migrations for this.
        with connection.schema_editor() as editor:
            editor.create_model(Product)
    execute_from_command_line(sys.argv)
