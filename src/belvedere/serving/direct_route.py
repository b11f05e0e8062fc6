"""FastAPI without its handling of exceptions and parameters, a fifth of the event loop's time for a prediction."""

from fastapi import FastAPI, Request
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send


class Application(FastAPI):
    """An application whose exceptions reach its caller, `ServiceMiddleware`, which responds to them."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the routes without handling of exceptions."""
        return AsyncExitStackMiddleware(self.router)


class DirectRoute(APIRoute):
    """A route whose function is called at once for a request without a query, where no dependency has to be checked.

    The function has the parameters `request`, and those of the path as strings.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        if scope["query_string"] or self.dependencies or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await self.endpoint(request=Request(scope, receive, send), **scope["path_params"])
        await response(scope, receive, send)
