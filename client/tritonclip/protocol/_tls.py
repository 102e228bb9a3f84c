"""Certificates of the caller's own, loaded and found good before the first request needs them."""

import ssl

from tritonclip._errors import ConfigError
from tritonclip.protocol.connection import Connection


def load_certificates(context: ssl.SSLContext, connection: Connection) -> None:
    """Load the authority and the client's certificate where they are given; raises ConfigError naming the file."""
    if connection.ca_file is not None:
        try:
            context.load_verify_locations(connection.ca_file)
        except (OSError, ValueError) as exc:
            raise ConfigError(f"ca_file {connection.ca_file}: {_why(exc)}") from exc
    if connection.client_certificate is not None:
        files = " and ".join(str(path) for path in (connection.client_certificate, connection.client_key) if path)
        try:
            # A password is never asked for on the terminal, as OpenSSL would.
            context.load_cert_chain(connection.client_certificate, connection.client_key, password=lambda: b"")
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"client_certificate {files}: {_why(exc)}; expected PEM, the key unencrypted and belonging to it"
            ) from exc


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return str(getattr(error, "strerror", None) or error)
