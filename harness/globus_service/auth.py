"""The little of Globus Auth that a client identity needs: tokens for its secret, and who it is."""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from typing import Any

from harness.globus_service.login import ClientLogin
from harness.globus_service.state import State

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
