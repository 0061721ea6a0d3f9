"""The topology's secrets: made once, readable by their owner alone, good for strict TLS."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import stat
import threading
from pathlib import Path

from harness.globus_service.credentials import (
    CERTIFICATE_FILE,
    DEFINITIONS_FILE,
    HOST_NAMES,
    KEY_FILE,
    ensure_secrets,
)
from harness.globus_service.endpoint import CA_FILE, login_environment, read_login


def directories(tmp_path: Path) -> tuple[Path, Path]:
    keys, login = tmp_path / "keys", tmp_path / "login"
    keys.mkdir()
    login.mkdir()
    return keys, login


def test_they_are_made_once_and_private(tmp_path: Path) -> None:
    keys, login = directories(tmp_path)
    assert login_environment(login) == {}
    secrets = ensure_secrets(keys, login)
    assert read_login(login) == secrets.client
    environment = login_environment(login)
    assert environment["GLOBUS_COMPUTE_CLIENT_SECRET"] == secrets.client.client_secret
    assert environment["GLOBUS_SDK_VERIFY_SSL"] == str(login / CA_FILE)
    before = (keys / KEY_FILE).read_bytes()
    assert ensure_secrets(keys, login) == secrets
    assert (keys / KEY_FILE).read_bytes() == before
    for path in (*keys.iterdir(), *login.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(set(secrets.passwords.values())) == 3
    # What clients can read has nothing of the broker's, nor the server's key.
    readable = b"".join(path.read_bytes() for path in login.iterdir())
    for password in secrets.passwords.values():
        assert password.encode() not in readable
    assert b"PRIVATE" not in readable


def test_the_broker_gets_hashes_and_the_least_rights(tmp_path: Path) -> None:
    keys, login = directories(tmp_path)
    secrets = ensure_secrets(keys, login)
    text = (keys / DEFINITIONS_FILE).read_text()
    definitions = json.loads(text)
    for user in definitions["users"]:
        password = secrets.passwords[user["name"]]
        assert password not in text
        salted = base64.b64decode(user["password_hash"])
        assert salted[4:] == hashlib.sha256(salted[:4] + password.encode()).digest()
    rights = {entry["user"]: entry for entry in definitions["permissions"]}
    assert (rights["client"]["configure"], rights["client"]["write"]) == ("", "")
    assert rights["endpoint"]["configure"] == ""
    assert secrets.broker_url("client", "broker:5672").startswith("amqp://client:")


def test_the_certificate_passes_strict_verification(tmp_path: Path) -> None:
    keys, login = directories(tmp_path)
    ensure_secrets(keys, login)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(keys / CERTIFICATE_FILE, keys / KEY_FILE)
    client = ssl.create_default_context(cafile=str(login / CA_FILE))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in HOST_NAMES:
        here, there = socket.socketpair()
        with here, there:
            answering = threading.Thread(
                target=lambda there=there: server.wrap_socket(there, server_side=True).close()
            )
            answering.start()
            with client.wrap_socket(here, server_hostname=name) as wrapped:
                assert wrapped.getpeercert()
            answering.join()
