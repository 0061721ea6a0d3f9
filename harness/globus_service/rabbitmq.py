"""The topology's RabbitMQ: its certificates, and its start with the users that the service made.

A certificate authority of the topology's own, and the service's certificate.

Start the topology's RabbitMQ with the users that the service made.

Runs in the broker's container, which has the standard library only.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harness.globus_service.endpoint import wait_for_file

# A plan may run for days; the authority is gone with its topology.
_VALID = datetime.timedelta(days=30)
# Clocks of containers are the host's, but certificates are compared to the second.
_SKEW = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority's certificate, the server's certificate and its private key."""

    ca: bytes
    certificate: bytes
    key: bytes


def make_certificates(host_names: Sequence[str]) -> Certificates:
    """Make an authority, sign one server certificate for the names, and forget the authority's key.

    Python 3.13 verifies strictly (RFC 5280): both need key identifiers, the authority a critical
    basicConstraints and keyUsage.
    """
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "harness topology CA")])
    ca_public = ca_key.public_key()
    ca = (
        _builder(ca_name, ca_name, ca_public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_public), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_names[0])])
    leaf = (
        _builder(name, ca_name, public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in host_names]),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_public), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Certificates(
        ca=ca.public_bytes(pem),
        certificate=leaf.public_bytes(pem),
        key=key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


_KEYS = Path("/harness/keys")
_STATE = Path("/harness/state")
_SCRATCH = Path("/tmp/rabbitmq")  # noqa: S108  # a tmpfs of the container's own
_WAIT_S = 60.0

# Schedulers that spin while idle would cost CPU beside what is measured.
_ERLANG = "-noinput +sbwt none +sbwtdcpu none +sbwtdio none"
# The cloud's clients never see a management interface; a plug-in would be memory for nothing.
_CONFIGURATION = """\
listeners.tcp.default = 5672
load_definitions = {definitions}
loopback_users = none
log.console = true
log.console.level = warning
log.file = false
# Of the container's limit or, without one, of the machine's memory: nothing is to be throttled.
vm_memory_high_watermark.relative = 0.8
disk_free_limit.absolute = 50MB
# The payloads' own limit is the service's.
max_message_size = 67108864
"""


def main() -> None:
    """Wait for the definitions, write the configuration, become the broker."""
    definitions = _KEYS / "definitions.json"
    try:
        wait_for_file(definitions, _WAIT_S)
    except TimeoutError as error:
        print(f"the broker has no users: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(3)
    _SCRATCH.mkdir(exist_ok=True)
    configuration = _SCRATCH / "rabbitmq.conf"
    configuration.write_text(_CONFIGURATION.format(definitions=definitions), encoding="utf-8")
    plugins = _SCRATCH / "enabled_plugins"
    plugins.write_text("[].\n", encoding="utf-8")
    server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    # RABBITMQ_ALLOW_INPUT lets the script become Erlang instead of staying its parent, so that
    # signals and the exit code are the broker's own.
    os.execve(  # noqa: S606  # no shell
        server,
        [server],
        os.environ
        | {
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_MNESIA_BASE": str(_STATE),
            "RABBITMQ_LOG_BASE": str(_SCRATCH),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(_SCRATCH / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "LANG": "C.UTF-8",
        },
    )


if __name__ == "__main__":
    main()
