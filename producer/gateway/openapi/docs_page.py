"""The API's documentation as a page that runs requests: Swagger UI, served without other hosts."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from fastapi import APIRouter, Response

router = APIRouter(include_in_schema=False)

#: Packages with the page's own files, and with those of Swagger UI.
_OWN: Final = __package__ or ""
_SWAGGER: Final = "fastapi_swagger.resources"
_HTML, _SCRIPT, _STYLE = "text/html", "text/javascript", "text/css"
#: Swagger UI sets styles of elements; everything else is a file of this gateway.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
#: The files change with the version of a package.
_CACHE: Final = "public, max-age=3600"


@router.head("/docs")
@router.get("/docs")
async def docs() -> Response:
    """Return the page; its URLs are relative, so that it works below a proxy's prefix."""
    page = _file(_OWN, "docs.html")
    return Response(page, media_type=_HTML, headers={"Content-Security-Policy": _POLICY})


@router.get("/docs/docs.js")
async def docs_script() -> Response:
    """Return the script that starts Swagger UI."""
    return _asset(_file(_OWN, "docs.js"), _SCRIPT)


@router.get("/docs/swagger-ui-bundle.js")
async def swagger_script() -> Response:
    """Return Swagger UI."""
    return _asset(_file(_SWAGGER, "swagger-ui-bundle.js"), _SCRIPT)


@router.get("/docs/swagger-ui.css")
async def swagger_style() -> Response:
    """Return the style sheet of Swagger UI."""
    return _asset(_file(_SWAGGER, "swagger-ui.css"), _STYLE)


# The event loop must not read a megabyte from the disk for each request.
@cache
def _file(package: str, name: str) -> bytes:
    return (resources.files(package) / name).read_bytes()


def _asset(data: bytes, media_type: str) -> Response:
    return Response(data, media_type=media_type, headers={"Cache-Control": _CACHE})
