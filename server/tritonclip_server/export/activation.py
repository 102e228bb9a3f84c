"""Published label sets taken up by running servers, and removed ones let go of, without a restart: `--activate`.

    load head_NAME.EDITION ──fails──> unload it, put the repository back: nothing has changed anywhere
      └─everywhere─> load classify_NAME ─> head_NAME ─> manifest ─> unload the weights of the edition before
    removed: load manifest ─> unload classify_NAME ─> head_NAME ─> its weights

Triton loads a model beside the one of its name, and exchanges the two in one step. Weights of another edition have
another name, so labels and weights change together, with `classify_NAME`: a request is answered by the edition whose
ensemble it met, and holds that one's weights until it has its answer. Decisions 152 to 154 say what in Triton this is
built on.
"""

import ipaddress
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from google.protobuf import json_format

from tritonclip import ConfigError, PermissionDeniedError, StatusError, TritonClipError, UnavailableError
from tritonclip.protocol import (
    Call,
    Connection,
    InferRequest,
    InferResponse,
    LoadModelRequest,
    Reply,
    UnloadModelRequest,
    addressed,
    each_server,
    open_transport,
    qualified,
    resolve_connection,
)
from tritonclip_server.export.classifiers import served_manifest
from tritonclip_server.export.errors import ActivationFailed, ActivationRefused
from tritonclip_server.repository.configs import CONFIG, read_config
from tritonclip_server.repository.label_sets import LabelSet, label_set_names, models_of, stored_label_sets, weights_of
from tritonclip_server.repository.manifest import NAME, model_folder

SECONDS = 120.0  # for one load: a Python model starts a process, and the manifest's digests all weights
ANSWER_SECONDS = 10.0  # for what is answered at once
REMEDY = "start it again to have what is published"


class Activation:
    """The servers that one name stands for, and what they serve; `close` it."""

    def __init__(self, url: str | None, admin_key: str | None, repository: Path) -> None:
        """Look at all of them; ActivationRefused where one cannot be asked, or serves another encoder."""
        self._repository = repository
        published = served_manifest(repository)
        try:
            connection = resolve_connection(url, admin_key=admin_key)
        except ConfigError as error:
            raise ActivationRefused(str(error)) from error
        name, wanted = published.get(NAME), connection.url.model
        if wanted not in (None, name):
            raise ActivationRefused(f"{repository} is published {_named(name)}, and {connection.url} asks for {wanted}")
        connection = replace(connection, url=replace(connection.url, model=name))
        if connection.admin_key is None:
            raise ActivationRefused("loading models needs the server's admin key: --admin-key, or TRITONCLIP_ADMIN_KEY")
        self._servers = [_Server(each) for each in every_address(connection)]
        try:
            for server in self._servers:
                server.check(published)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Activation":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def prepare(self) -> None:
        """Have all servers load the weights that they lack, by which nobody is answered yet.

        Those of all label sets of the repository: the manifest, which is loaded at the end, tells of all. Raises
        ActivationRefused where a server cannot; then none has them, and each is as it was.
        """
        tried: list[tuple[_Server, LabelSet]] = []
        try:
            for server in self._servers:
                for label_set in server.lacks(self._repository):
                    tried.append((server, label_set))
                    server.load(label_set.weights)
        except BaseException as error:
            for server, label_set in tried:
                server.take_back(label_set.weights, self._repository)
            if isinstance(error, TritonClipError):
                raise ActivationRefused(
                    f"{server} does not take {label_set.name} up, and serves on what it has; nothing was changed: "
                    f"{_reason(error)}"
                ) from error
            raise

    def switch(self) -> list[str]:
        """Have all servers answer by what they have prepared, and no more by what was removed; returns their names.

        Raises ActivationFailed, with the servers that do not; the others do.
        """
        failed = []
        for server in self._servers:
            try:
                server.switch(self._repository)
            except TritonClipError as error:
                failed.append(f"{server}: {_reason(error)}")
        if failed:
            raise ActivationFailed(f"the repository was changed; not taken up by {'; '.join(failed)}; {REMEDY}")
        return [str(server) for server in self._servers]

    def close(self) -> None:
        """Close all connections."""
        for server in self._servers:
            server.close()


class _Server:
    """One Triton."""

    def __init__(self, connection: Connection) -> None:
        self._url = connection.url
        self._transport = open_transport(connection)
        self._label_sets: dict[str, Any] = {}

    def __str__(self) -> str:
        return str(self._url)

    def check(self, published: dict[str, Any]) -> None:
        """Learn what it serves; ActivationRefused where that is not what the repository's manifest says.

        Loading an ensemble loads what it is made of, where that is newer: an encoder would be exchanged by the way.
        """
        request = InferRequest("manifest", (), ("manifest",))
        try:
            reply = cast(InferResponse, self._call(request, ANSWER_SECONDS))
            manifest = json.loads(reply["manifest"].items()[0])
        except (TritonClipError, ValueError) as error:
            raise ActivationRefused(f"{self} does not say what it serves: {error}") from error
        if "revision" not in manifest:
            raise ActivationRefused(f"{self} serves a repository of an older version; {REMEDY}")
        if manifest["fingerprint"] != published["fingerprint"]:
            raise ActivationRefused(
                f"{self} serves another encoder, {manifest['fingerprint']}, than this repository has, "
                f"{published['fingerprint']}; {REMEDY}"
            )
        if {key: value for key, value in manifest.items() if key not in ("label_sets", "revision")} != published:
            raise ActivationRefused(f"the repository was published again since {self} was started; {REMEDY}")
        self._label_sets = manifest["label_sets"]
        try:
            self.load("similarity")  # which it has, so nothing happens but that the key is looked at
        except TritonClipError as error:
            raise ActivationRefused(f"{self} cannot be told what to load: {_reason(error)}") from error

    def lacks(self, repository: Path) -> list[LabelSet]:
        """The label sets that it serves in another edition, or not at all."""
        stored = stored_label_sets(repository)
        return [label_set for label_set in stored if self._edition(label_set.name) != label_set.edition]

    def load(self, model: str) -> None:
        """Have it load a model, or again where its files are newer."""
        self._call(LoadModelRequest(model), SECONDS)

    def switch(self, repository: Path) -> None:
        """Answer by the label sets whose weights it has loaded; let go of removed ones, and of the editions before."""
        changed = self.lacks(repository)
        for label_set in changed:
            head, classify = label_set.models
            self.load(classify)
            self.load(head)
        stored = label_set_names(repository)
        gone = [name for name in self._label_sets if name not in stored]
        if changed or gone:
            self.load("manifest")
        # Whoever met an ensemble before has its weights in hand: `manifest` took a process's start to load.
        for name in gone:
            for model in reversed(models_of(name)):
                self._unload(model)
        for name in [*gone, *(label_set.name for label_set in changed)]:
            if before := self._edition(name):
                self._unload(weights_of(name, before))

    def _unload(self, model: str) -> None:
        self._call(UnloadModelRequest(model), SECONDS)

    def _edition(self, name: str) -> str | None:
        found = self._label_sets.get(name)
        return None if found is None else str(found["edition"])

    def take_back(self, model: str, repository: Path) -> None:
        """Have it be as if a model had never been loaded, where that failed or succeeded.

        Triton is not ready while a model is there that failed to load, and forgives only one that was unloaded. So
        another one is loaded under this name, for a moment: one that the server has all parts of.
        """
        config = json_format.MessageToDict(read_config(model_folder(repository, "embed_image") / CONFIG))
        config |= {"name": qualified(model, self._url.model)}
        with suppress(TritonClipError):
            self._call(LoadModelRequest(model, json.dumps(config)), SECONDS)
        with suppress(TritonClipError):
            self._call(UnloadModelRequest(model), SECONDS)

    def close(self) -> None:
        self._transport.close()

    def _call(self, call: Call, seconds: float) -> Reply:
        return self._transport.start(addressed(call, self._url.model), seconds).result()


def every_address(connection: Connection) -> Sequence[Connection]:
    """A connection for each server, and for each address that its name has: instances of one service share a name.

    Certificates are for names, and proxies find addresses themselves: there it is one, as it is.
    """
    return [address for server in each_server(connection) for address in _addresses(server)]


def _addresses(connection: Connection) -> Sequence[Connection]:
    url = connection.url
    if url.is_secure or connection.proxy is not None:
        return [connection]
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ActivationRefused(f"{url}: {error.strerror or error}") from error
    hosts = dict.fromkeys(str(address[0]) for *_, address in found)
    loopback = [host for host in hosts if ipaddress.ip_address(host.partition("%")[0]).is_loopback]
    if loopback:  # localhost is one machine, by however many addresses
        return [connection]
    return [replace(connection, url=replace(url, host=host)) for host in hosts]


def _named(name: str | None) -> str:
    return "without a name" if name is None else f"as {name}"


def _reason(error: TritonClipError) -> str:
    """What a server says, and what to do where it is closed to us."""
    if isinstance(error, PermissionDeniedError | UnavailableError):
        return f"{error}: is that its admin key, and was it started with --model-control-mode=explicit?"
    return error.reason.strip() if isinstance(error, StatusError) else str(error)
