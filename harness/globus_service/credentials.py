"""The secrets of one topology: made at its first start, in memory, and gone with it.

They survive a restart of the service alone, because the broker keeps the directory mounted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.globus_service.endpoint import CA_FILE, ClientLogin, write_login, write_private
from harness.globus_service.rabbitmq import make_certificates

HOST_NAMES = ("compute.api.globus.org", "auth.globus.org")
"""The cloud's names, which the SDK and the endpoint call unless told otherwise."""

DEFINITIONS_FILE = "definitions.json"
CERTIFICATE_FILE = "server.pem"
KEY_FILE = "server.key"
_SECRETS_FILE = "secrets.json"

# What each role may do to queues and exchanges (regular expressions of RabbitMQ): configure, write,
# read. Declaring passively, as the endpoint does, needs none.
_PERMISSIONS = {
    "service": (".*", ".*", ".*"),
    "endpoint": ("", "^(results|heartbeats)$", r"^(command|task)\..*"),
    "client": ("", "", r"^tg\..*"),
}


@dataclass(frozen=True)
class Secrets:
    """One topology's secrets.

    Attributes:
        client: what the SDK and the endpoint log in with.
        identity: the Globus identity that this client is.
        passwords: broker user -> password.
    """

    client: ClientLogin
    identity: str
    passwords: dict[str, str]

    def broker_url(self, role: str, broker: str) -> str:
        """Return the URL with which a role connects to the broker, the password in it."""
        return f"amqp://{role}:{self.passwords[role]}@{broker}/%2F"


def ensure_secrets(keys: Path, login: Path) -> Secrets:
    """Read the topology's secrets, or make them; then let clients find theirs."""
    path = keys / _SECRETS_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        made = Secrets(ClientLogin(**found.pop("client")), **found)
    except FileNotFoundError:
        made = _make(keys)
        write_private(path, json.dumps(asdict(made)).encode())
    write_login(login, made.client, (keys / CA_FILE).read_bytes())
    return made


def _make(keys: Path) -> Secrets:
    made = Secrets(
        client=ClientLogin(str(uuid.uuid4()), secrets.token_urlsafe(32)),
        identity=str(uuid.uuid4()),
        passwords={role: secrets.token_hex(24) for role in _PERMISSIONS},
    )
    certificates = make_certificates(HOST_NAMES)
    write_private(keys / CA_FILE, certificates.ca)
    write_private(keys / CERTIFICATE_FILE, certificates.certificate)
    write_private(keys / KEY_FILE, certificates.key)
    definitions = broker_definitions(made.passwords)
    write_private(keys / DEFINITIONS_FILE, json.dumps(definitions).encode())
    return made


def broker_definitions(passwords: dict[str, str]) -> dict[str, Any]:
    """Return RabbitMQ's definitions file: users, their passwords' hashes, and their rights."""
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {
                "name": role,
                "password_hash": _password_hash(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
                "limits": {},
            }
            for role, password in passwords.items()
        ],
        "permissions": [
            {"user": role, "vhost": "/", "configure": configure, "write": write, "read": read}
            for role, (configure, write, read) in _PERMISSIONS.items()
        ],
    }


def _password_hash(password: str) -> str:
    """Return RabbitMQ's own form: base64 of a 4-byte salt and SHA-256 of salt and password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
