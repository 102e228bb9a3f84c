"""What both clients are before the first call: settings, a session, and a transport; and what a copy of them gets."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

from tritonclip import _defaults
from tritonclip._core.session import Session
from tritonclip._errors import ConfigError
from tritonclip.protocol.connection import (
    ADMIN_KEY_VARIABLE,
    REQUEST_ID,
    TOKEN_VARIABLE,
    Connection,
    check_headers,
    resolve_connection,
)

TransportT = TypeVar("TransportT")
_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)

# Arguments that a pickle would show to whoever reads it, and what to use in their place.
_NEVER_PICKLED = {
    "admin_key": f"set {ADMIN_KEY_VARIABLE} where it is used",
    "token": f"set {TOKEN_VARIABLE} where it is used",
    "headers": "they may hold secrets: make the client where it is used",
    "transport": "make the client where it is used",
}


class BaseClient(ABC, Generic[TransportT]):
    """Settings of a client; ``Client`` documents them.

    ``copy.copy``, ``with_timeout`` and ``with_headers`` share connections and what is known of the server.
    ``copy.deepcopy`` and ``pickle`` make a client with the same settings that connects anew, and reads the environment
    where it is made.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        model: str | None = None,
        timeout: float = _defaults.TIMEOUT,
        concurrency: int = _defaults.CONCURRENCY,
        batch_size: int | None = None,
        admin_key: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        client_certificate: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        transport: TransportT | None = None,
    ) -> None:
        identity = {
            "admin_key": admin_key,
            "token": token,
            "headers": headers,
            "ca_file": ca_file,
            "client_certificate": client_certificate,
            "client_key": client_key,
        }
        connection = resolve_connection(url, model=model, **identity)  # type: ignore[arg-type]
        self._url = connection.url
        self._session = Session(timeout, concurrency, batch_size, model=self._url.model)
        self._given: dict[str, Any] = {**identity, "transport": transport}
        self._transport = self._open(connection) if transport is None else transport

    @abstractmethod
    def _open(self, connection: Connection) -> TransportT: ...

    def with_timeout(self, timeout: float) -> Self:
        """This client with another timeout, for a request with a deadline of its own.

        Connections, and what is known of the server, are shared; close the one that was opened.
        """
        other = self.__copy__()
        other._session = self._session.with_timeout(timeout)
        return other

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """This client with further headers on each inference, as of a request that is followed.

        Over gRPC they are metadata. ``traceparent`` and ``tracestate`` (W3C Trace Context) make Triton's spans part of
        a trace, where it was started with tracing. ``x-request-id`` is also the id of the inferences, which Triton's
        errors and spans have, and must be 1 to 128 letters, digits and ``. _ : -``. These win over headers of the same
        name that the client has already. Connections, and what is known of the server, are shared; close the one that
        was opened.

        Raises ConfigError for what cannot be a header, or is one of the transport's own.
        """
        checked = check_headers(headers)
        if (given := checked.get(REQUEST_ID)) is not None and not _ID.fullmatch(given):
            raise ConfigError(f"headers: {REQUEST_ID}: expected 1 to 128 letters, digits and . _ : - , not {given!r}")
        other = self.__copy__()
        other._session = self._session.with_headers(checked)
        other._given = self._given | {"headers": {**(self._given["headers"] or {}), **checked}}
        return other

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(**self._settings(), **self._given)

    def __reduce__(self) -> tuple[Any, ...]:
        for name, remedy in _NEVER_PICKLED.items():
            if self._given[name] is not None:
                raise ConfigError(f"a client with {name} given as an argument is not pickled; {remedy}")
        files = {name: value for name, value in self._given.items() if value is not None}
        return _make, (type(self), self._settings() | files)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._url)!r})"

    def _settings(self) -> dict[str, Any]:
        session = self._session
        return {
            "url": str(self._url),
            "timeout": session.timeout,
            "concurrency": session.concurrency,
            "batch_size": session.batch_size,
        }


def _make(kind: type[BaseClient[Any]], settings: dict[str, Any]) -> BaseClient[Any]:
    return kind(**settings)
