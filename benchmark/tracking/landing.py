"""MLflow's server with another first page: the bare address leads to the comparison of a run.

MLflow starts it by the name that its entry point has (group ``mlflow.app``).
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

NAME = "uasbench"
PLACE = "UASBENCH_LANDING"
"""Variable of the environment with what stands behind ``#`` in the address."""
CALM = "try{localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1','true')}catch{};"
"""Else MLflow opens a pane for language models over a third of its first page; a click on its button still does."""
CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")


class Landing:
    """A WSGI application that adds a script to the page of another one: without a place of its own it goes on to ours.

    The place stands behind ``#``, which no server sees, so that a redirect would take readers away from every page.
    """

    def __init__(self, inner: Callable[..., Iterable[bytes]], place: str) -> None:
        self.inner = inner
        target = json.dumps(f"#{place}").replace("<", "\\u003c")
        script = f'<script>{CALM}if(["","#","#/"].includes(location.hash))location.replace({target})</script>'
        self.script = script.encode()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") not in ("", "/"):
            return self.inner(environ, start_response)
        from werkzeug.wrappers import Response

        whole = {key: value for key, value in environ.items() if key not in CONDITIONS}  # no page of another server
        answer = Response.from_app(self.inner, whole)
        if answer.mimetype == "text/html":
            answer.set_data(answer.get_data().replace(b"<head>", b"<head>" + self.script, 1))
            answer.headers["Cache-Control"] = "no-store"
            answer.headers.pop("ETag", None)
        return answer(environ, start_response)


def app() -> Any:
    """Return MLflow's application with our first page; of versions before the one on FastAPI that on Flask."""
    from mlflow.server import app as flask_app

    flask_app.wsgi_app = Landing(flask_app.wsgi_app, os.environ[PLACE])
    try:
        from mlflow.server.fastapi_app import app as whole
    except ImportError:
        return flask_app
    return whole
