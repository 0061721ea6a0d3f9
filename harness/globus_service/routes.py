"""The service's web face: the parts of Globus Auth and of the Compute API that clients call.

The little of Globus Auth that a client identity needs: tokens for its secret, and who it is.

The service's web face: the parts of the Compute API that SDK and endpoint call.
"""

from __future__ import annotations

import base64
import hmac
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qs
from uuid import UUID, uuid4

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from harness.globus_service import broker
from harness.globus_service.broker import (
    BatchStatus,
    BrokerAwayError,
    EndpointRegistration,
    FunctionRegistration,
    Submission,
)
from harness.globus_service.credentials import Secrets
from harness.globus_service.endpoint import ClientLogin
from harness.globus_service.relay import GROUP_PREFIX, Relay, UnknownIdError
from harness.globus_service.settings import Settings
from harness.globus_service.state import Endpoint, State, Task

_LIFETIME_S = 48 * 3600
# The scope of the Compute API has its resource server's id in it; everything else is Auth's own.
_COMPUTE_SCOPE = "facd7ccc-c5f4-42aa-916b-a0e270e2c2a9"
_COMPUTE = "funcx_service"
_AUTH = "auth.globus.org"


class Auth:
    """Gives out tokens and knows them again.

    Args:
        client: who may log in.
        identity: the identity that is.
        state: where tokens are remembered.
    """

    def __init__(self, client: ClientLogin, identity: str, state: State) -> None:
        self._client = client
        self._identity = identity
        self._state = state

    def log_in(self, authorization: str, scope: str) -> dict[str, Any] | None:
        """Return tokens, one for each resource server of the scopes; None for a wrong secret.

        Args:
            authorization: the header, HTTP Basic.
            scope: scopes, separated by spaces.
        """
        if not self._is_client(authorization):
            return None
        servers: dict[str, list[str]] = {}
        for name in scope.split():
            servers.setdefault(_COMPUTE if _COMPUTE_SCOPE in name else _AUTH, []).append(name)
        tokens = [self._token(server, names) for server, names in servers.items()]
        if not tokens:
            tokens = [self._token(_AUTH, [])]
        return {**tokens[0], "other_tokens": tokens[1:]}

    def knows(self, authorization: str) -> bool:
        """Return whether a header carries a token that was given out."""
        kind, _, token = authorization.partition(" ")
        return kind.lower() == "bearer" and self._state.knows_token(token)

    def userinfo(self) -> dict[str, Any]:
        """Return who the client is."""
        return {
            "sub": self._identity,
            "preferred_username": "harness@localhost",
            "identity_set": [{"sub": self._identity, "username": "harness@localhost"}],
        }

    def _is_client(self, authorization: str) -> bool:
        kind, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except ValueError:  # not base64, or not even ASCII
            return False
        wanted = f"{self._client.client_id}:{self._client.client_secret}".encode()
        return kind.lower() == "basic" and hmac.compare_digest(given, wanted)

    def _token(self, server: str, scopes: list[str]) -> dict[str, Any]:
        token = secrets.token_urlsafe(32)
        self._state.add_token(token, time.time() + _LIFETIME_S)
        return {
            "access_token": token,
            "scope": " ".join(scopes),
            "resource_server": server,
            "expires_in": _LIFETIME_S,
            "token_type": "Bearer",
        }


logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]

# JSON escapes each line's end in a payload, and has brackets and names around all of them.
_OVERHEAD = 1.05
_OVERHEAD_BYTES = 2**16
# What any other body may have: a function's code, an endpoint's description.
_BODY_BYTES = 2 * 2**20


class Routes:
    """Answers requests.

    Args:
        settings: limits and addresses.
        secrets: the topology's.
        state: what is remembered.
        relay: what carries tasks and results.
    """

    def __init__(self, settings: Settings, secrets: Secrets, state: State, relay: Relay) -> None:
        self._settings = settings
        self._secrets = secrets
        self._state = state
        self._relay = relay
        self._auth = Auth(secrets.client, secrets.identity, state)

    def application(self, lifespan: Callable[[], AsyncIterator[None]] | None = None) -> Starlette:
        """Return the ASGI application; ``lifespan`` is entered while it serves."""
        own = asynccontextmanager(lambda _app: lifespan()) if lifespan else None
        routes = [
            Route("/v2/oauth2/token", self._token, methods=["POST"]),
            Route("/v2/oauth2/userinfo", self._known(self._userinfo)),
            Route("/v2/version", self._version),
            Route("/v2/get_amqp_result_connection_url", self._known(self._result_queues)),
            Route("/v2/endpoints", self._known(self._endpoints)),
            Route("/v2/endpoints/{id:uuid}", self._known(self._endpoint)),
            Route("/v2/endpoints/{id:uuid}/status", self._known(self._endpoint_status)),
            Route("/v2/batch_status", self._known(self._batch_status), methods=["POST"]),
            Route("/v2/taskgroup/{id:uuid}", self._known(self._task_group)),
            Route("/v2/tasks/{id:uuid}", self._known(self._task)),
            Route("/v3/functions", self._known(self._add_function), methods=["POST"]),
            Route("/v3/endpoints", self._known(self._register), methods=["POST"]),
            Route("/v3/endpoints/{id:uuid}", self._known(self._register), methods=["PUT"]),
            Route("/v3/endpoints/{id:uuid}/submit", self._known(self._submit), methods=["POST"]),
        ]
        return Starlette(
            routes=routes, lifespan=own, exception_handlers={HTTPException: _http_error}
        )

    def _known(self, handler: Handler) -> Handler:
        """Let nobody in without a token; turn what can go wrong into the API's errors."""

        async def checked(request: Request) -> Response:
            if not self._auth.knows(request.headers.get("authorization", "")):
                return _error(401, "INVALID_TOKEN", "the access token is missing or not known")
            try:
                return await handler(request)
            except UnknownIdError as error:
                return _error(404, "NOT_FOUND", str(error))
            except BrokerAwayError as error:
                return _error(503, "BROKER_UNAVAILABLE", f"try again: {error}")

        return checked

    async def _token(self, request: Request) -> Response:
        form = parse_qs((await _body(request, _BODY_BYTES)).decode(errors="replace"))
        tokens = self._auth.log_in(
            request.headers.get("authorization", ""), " ".join(form.get("scope", []))
        )
        if tokens is None:
            # The shape of OAuth 2 (RFC 6749, 5.2), which is not the API's.
            return JSONResponse(
                {"error": "invalid_client", "error_description": "unknown client or wrong secret"},
                401,
            )
        return JSONResponse(tokens)

    async def _userinfo(self, _request: Request) -> Response:
        return JSONResponse(self._auth.userinfo())

    async def _version(self, _request: Request) -> Response:
        return JSONResponse({"api": "1.0.0", "min_sdk_version": "3.0.0", "min_ep_version": "3.0.0"})

    async def _result_queues(self, _request: Request) -> Response:
        url = self._secrets.broker_url("client", self._settings.broker)
        return JSONResponse({"queue_prefix": GROUP_PREFIX, "connection_url": url})

    async def _endpoints(self, _request: Request) -> Response:
        return JSONResponse([_endpoint_json(found) for found in self._state.endpoints()])

    async def _endpoint(self, request: Request) -> Response:
        return JSONResponse(_endpoint_json(self._find(request.path_params["id"])))

    async def _endpoint_status(self, request: Request) -> Response:
        found = self._find(request.path_params["id"])
        status = "online" if self._relay.online(found.id) else "offline"
        return JSONResponse({"status": status, "details": {}})

    def _find(self, endpoint: UUID) -> Endpoint:
        found = self._state.endpoint(endpoint)
        if found is None:
            raise UnknownIdError(f"endpoint {endpoint} is not registered")
        return found

    async def _add_function(self, request: Request) -> Response:
        function = await _read(request, FunctionRegistration, _BODY_BYTES)
        frame = function.function_code
        if not function.serialized:
            frame = broker.source_frame(function.function_name, function.function_code)
        found = self._state.add_function(function.function_name, frame)
        return JSONResponse({"function_uuid": str(found)})

    async def _register(self, request: Request) -> Response:
        endpoint = request.path_params.get("id") or uuid4()
        body = await _read(request, EndpointRegistration, _BODY_BYTES)
        name = body.display_name or body.endpoint_name
        return JSONResponse(await self._relay.register_endpoint(endpoint, name, body.metadata))

    async def _submit(self, request: Request) -> Response:
        limit = self._settings.max_submission_bytes
        submission = await _read(request, Submission, int(limit * _OVERHEAD) + _OVERHEAD_BYTES)
        size = sum(len(payload) for tasks in submission.tasks.values() for payload in tasks)
        if size > limit:
            raise _too_large(size, limit)
        return JSONResponse(await self._relay.submit(request.path_params["id"], submission))

    async def _batch_status(self, request: Request) -> Response:
        wanted = await _read(request, BatchStatus, _BODY_BYTES)
        found = self._state.tasks(wanted.task_ids)
        return JSONResponse({"results": {str(task.id): _task_json(task) for task in found}})

    async def _task_group(self, request: Request) -> Response:
        group = request.path_params["id"]
        tasks = self._state.group(group)
        if not tasks:
            raise UnknownIdError(f"task group {group} has no tasks")
        # Who asks for it is going to listen to it.
        await self._relay.open_group(group)
        return JSONResponse(
            {"taskgroup_id": str(group), "tasks": [{"id": str(task)} for task in tasks]}
        )

    async def _task(self, request: Request) -> Response:
        task = self._state.task(request.path_params["id"])
        if task is None:
            raise UnknownIdError(f"task {request.path_params['id']} is not known")
        return JSONResponse(_task_json(task))


def _endpoint_json(endpoint: Endpoint) -> dict[str, Any]:
    return {"uuid": str(endpoint.id), "name": endpoint.name, "metadata": endpoint.metadata}


def _task_json(task: Task) -> dict[str, Any]:
    found: dict[str, Any] = {"task_id": str(task.id), "status": "pending", "completion_t": None}
    if task.completed is None or task.message is None:
        return found
    found["status"] = "failed" if task.failed else "success"
    found["completion_t"] = str(task.completed)
    result = broker.parse_result(task.message)
    found["exception" if task.failed else "result"] = result.data
    if result.details:
        found["details"] = result.details
    return found


async def _body(request: Request, limit: int) -> bytes:
    """Return a request's body, keeping no more of it than it may have.

    The rest is read nevertheless: a client that is cut off while it sends sees a broken connection
    instead of the answer, and tries again.
    """
    found = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            found += chunk
        else:
            found.clear()
    if size > limit:
        raise _too_large(size, limit)
    return bytes(found)


async def _read(request: Request, model: type[M], limit: int) -> M:
    """Return a request's body as a model.

    Raises:
        HTTPException: if it is too large or wrong.
    """
    try:
        return model.model_validate_json(await _body(request, limit))
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, found["loc"]))
        raise HTTPException(422, f"{where}: {found['msg']}") from None


def _too_large(size: int, limit: int) -> HTTPException:
    return HTTPException(413, f"a submission of {size} bytes: the limit is {limit} bytes")


_CODES = {
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    422: "INVALID_REQUEST",
}


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, _CODES.get(error.status_code, "ERROR"), error.detail)


def _error(status: int, code: str, reason: str) -> Response:
    """Return an error in the API's shape."""
    return JSONResponse(
        {"status": "Failed", "code": code, "http_status_code": status, "reason": reason}, status
    )
