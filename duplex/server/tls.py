"""TLS: a given certificate, or one made here. Browsers give microphones only to HTTPS off localhost."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from duplex.core.errors import ConfigError

VALID_DAYS = 397  # the longest that browsers accept


def server_context(cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """A context with the given certificate, else with a self-signed one kept in the user's cache folder.

    Raises ConfigError naming a file that cannot be read or kept, or the pair if it is none.
    """
    if cert is None or key is None:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "duplex"
        try:
            cert, key = self_signed(folder)
        except OSError as error:
            raise ConfigError(f"tls: a certificate cannot be kept in {folder}: {error.strerror}") from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for name, file in (("cert", cert), ("key", key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{name}: {file} cannot be read: {error.strerror}") from error
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise ConfigError(f"cert and key: {cert} and {key} are no certificate and its key: {error}") from error
    return context


def self_signed(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) files in `folder`, made unless they are there, whole and valid for another week."""
    cert_file, key_file = folder / "self-signed.crt", folder / "self-signed.key"
    now = datetime.datetime.now(datetime.UTC)
    if _usable(cert_file, key_file, now + datetime.timedelta(days=7)):
        return cert_file, key_file
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "duplex")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(_own_names()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.unlink(missing_ok=True)
    with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return cert_file, key_file


def _usable(cert_file: Path, key_file: Path, until: datetime.datetime) -> bool:
    """Whether both files are there, belong together and hold until then: writing them may have been broken off."""
    if not cert_file.exists() or not key_file.exists():
        return False
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (ValueError, TypeError):
        return False
    return certificate.public_key() == key.public_key() and certificate.not_valid_after_utc > until


def _own_names() -> list[x509.GeneralName]:
    host = socket.gethostname()
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName(host)]
    addresses = {"127.0.0.1", "::1"}
    with contextlib.suppress(OSError):  # a host that cannot resolve its own name still serves localhost
        addresses |= {str(entry[4][0]).split("%")[0] for entry in socket.getaddrinfo(host, None)}
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(addresses)]
    return names
