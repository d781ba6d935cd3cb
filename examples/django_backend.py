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
with BLIPLINE_WEBHOOK_ALLOW=127.0.0.1. All of it is in one file: a comment
names the file that each part belongs to in a project.
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

#: Maximum attempts at a request, and maximum seconds between two: our own user waits meanwhile.
MAX_ATTEMPTS, MAX_DELAY_S = 4, 5.0

#: Shared by all threads, with a connection pool.
blipline = httpx.Client(
    base_url=settings.BLIPLINE_GATEWAY,
    headers={"Authorization": f"Bearer {settings.BLIPLINE_API_KEY}"},
    timeout=30,
)
webhook = Webhook(settings.BLIPLINE_WEBHOOK_SECRET)


class BliplineProblem(Exception):
    """Blipline rejected the request, or is unavailable."""

    def __init__(self, detail: str, status: int, headers: dict[str, str]) -> None:
        super().__init__(detail)
        self.response = JsonResponse({"detail": detail}, status=status, headers=headers)


def call_blipline(method: str, path: str, **arguments: Any) -> Any:
    """Send a request to Blipline; retry it while Blipline is busy or unreachable.

    A PUT under an id of our own can be repeated: it creates one job.
    """
    delay_s = 1.0
    for _ in range(MAX_ATTEMPTS):
        try:
            answer = blipline.request(method, path, **arguments)
        except httpx.TransportError:
            delay_s = 1.0
        else:
            if answer.status_code in (413, 422):  # our user's input is invalid
                raise BliplineProblem(answer.json()["detail"], 422, {})
            if answer.status_code not in (429, 502, 503, 504):
                return answer.raise_for_status().json()
            delay_s = float(answer.headers.get("Retry-After", 1))
        if delay_s > MAX_DELAY_S:
            break
        time.sleep(delay_s)
    raise BliplineProblem("come back later", 503, {"Retry-After": f"{delay_s:.0f}"})


def update(job: dict[str, Any]) -> None:
    """Store the result of a job. Idempotent: the same webhook may come again."""
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
        return JsonResponse([product.to_json() for product in Product.objects.all()], safe=False)
    try:
        return add(request)
    except BliplineProblem as problem:
        return problem.response


def add(request: HttpRequest) -> HttpResponse:
    if picture := request.FILES.get("picture"):
        image = call_blipline("POST", "/v1/images", content=picture.read())["image"]
    else:
        image = request.POST.get("picture_url", "")
        if not image.startswith(("https://", "http://")):
            raise BliplineProblem("a product needs a picture, or a picture_url of the web", 422, {})
    # Before the submission: the webhook may be faster than the response to it.
    product = Product.objects.create()
    job = {
        "task": "caption",
        "image": image,
        "webhook": settings.SITE_URL + reverse(receive_webhook),
    }
    try:
        update(call_blipline("PUT", f"/v1/jobs/{product.id}", json=job))
    except BliplineProblem:
        product.delete()
        raise
    product.refresh_from_db()
    return JsonResponse(product.to_json(), status=201)


@require_GET
def show(request: HttpRequest, product_id: uuid.UUID) -> HttpResponse:
    product = get_object_or_404(Product, id=product_id)
    if product.status == "waiting":
        try:
            # In addition to the webhook, which may be late or lost.
            update(call_blipline("GET", f"/v1/jobs/{product_id}"))
        except BliplineProblem as problem:
            return problem.response
        product.refresh_from_db()
    return JsonResponse(product.to_json())


@csrf_exempt  # the signature proves the sender
@require_POST
def receive_webhook(request: HttpRequest) -> HttpResponse:
    try:
        event = webhook.verify(request.body, dict(request.headers))
    except (WebhookVerificationError, ValueError):  # ValueError: a malformed signature
        return HttpResponse("the signature is not Blipline's", status=401)
    if event["type"] == "job.completed":  # not a ping
        update(event["data"])
    return HttpResponse(status=204)


# urls.py

urlpatterns = [
    path("products", products),
    path("products/<uuid:product_id>", show),
    path("webhooks/blipline", receive_webhook),
]

# manage.py

if __name__ == "__main__":
    if "shop_product" not in connection.introspection.table_names():
        # A project has migrations for this.
        with connection.schema_editor() as editor:
            editor.create_model(Product)
    execute_from_command_line(sys.argv)
