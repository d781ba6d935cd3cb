"""What can be done with a path: each method of it is a route that knows of no other."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from .problems import as_problem, problem_response


def tell_allowed(app: FastAPI) -> None:
    """Let the `Allow` header of every 405 name all methods of its path."""

    async def tell(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        template = getattr(request.scope.get("route"), "path", "")
        methods = {method.upper() for method in app.openapi()["paths"].get(template, ())}
        if "GET" in methods:
            methods.add("HEAD")
        if methods:
            error.headers = {**(error.headers or {}), "Allow": ", ".join(sorted(methods))}
        return problem_response(as_problem(error))

    app.add_exception_handler(405, tell)
