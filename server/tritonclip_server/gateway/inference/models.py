"""The models of a gateway, and which of them a request is for: the one that it names, or the first that it may use.

"model" of a request ─> a model's id ─> an alias ─> a variant that one model alone is of ─> any name, where allowed
none, or infinity's "default/not-specified" ──────────────> the first that the request's key may use
"""

import asyncio
import contextlib
import shlex
from collections.abc import Mapping, Sequence

from tritonclip import Manifest
from tritonclip_server.gateway.access.keys import Key
from tritonclip_server.gateway.errors import ApiError, in_words
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.inference.service import Service
from tritonclip_server.gateway.logs import printable
from tritonclip_server.gateway.settings import ANY_NAME

UNNAMED = "default/not-specified"  # the name that infinity's client sends where it was told none
ALIAS_CHARACTERS = 128  # of a model's name in an error
FIRST_LOOK_SECONDS = 1.0  # for which a name that may be a variant waits until all models have said theirs
READY_SECONDS = 3.0  # for which a verdict on one model is waited for where another one is ready


class Models:
    """The services of all models, the default one first, and the other names that they are asked for by."""

    def __init__(self, services: Sequence[Service], aliases: Mapping[str, str | None]) -> None:
        """`aliases` have for each name a model's id, or None for the first model."""
        self._services = tuple(services)
        self._aliases = aliases

    async def choose(self, context: RequestContext, name: str | None) -> tuple[Service, Manifest]:
        """The service of the model that a request names, and its manifest; ApiError where it may not use that."""
        service = await self.find(context.key, name)
        return service, await self._chosen(context, service)

    async def choose_by_fingerprint(self, context: RequestContext, fingerprint: str | None) -> tuple[Service, Manifest]:
        """The same of the model that has a fingerprint; of the default one where none has."""
        service = self._of_fingerprint(context.key, fingerprint)
        if service is None:
            for each in self._services:
                if each.model.known is None:  # it may be this one
                    await each.model.manifest()
            service = self._of_fingerprint(context.key, fingerprint) or self.default(context.key)
        return service, await self._chosen(context, service)

    async def find(self, key: Key | None, name: str | None) -> Service:
        """The service of the model of this name, which the key may use."""
        service = await self._named(key, name)
        self._check(key, service)
        return service

    async def listed(self, key: Key | None) -> list[tuple[str, Service]]:
        """All names with their services that a key may use: ids first, then aliases."""
        by_id = await self._by_id()
        names = [*by_id.items()]
        names += [
            (alias, by_id[model] if model is not None else self._services[0])
            for alias, model in self._aliases.items()
            if alias != ANY_NAME and alias not in by_id
        ]
        return [(name, service) for name, service in names if self._may_use(key, service)]

    def default(self, key: Key | None) -> Service:
        """The first model that a key may use; ApiError where there is none."""
        for service in self._services:
            if self._may_use(key, service):
                return service
        raise ApiError("model_not_allowed", "this key may use none of the models here", param="model")

    def may_use_fingerprint(self, key: Key | None, fingerprint: str | None) -> bool:
        """Whether a key may use the vectors of the model that has a fingerprint."""
        return key is None or key.models is None or self._of_fingerprint(key, fingerprint) is not None

    @property
    def known(self) -> list[Manifest | None]:
        """The manifest of each model as it was last read, None where it never was."""
        return [service.model.known for service in self._services]

    def fingerprint_of(self, context: RequestContext) -> str | None:
        """That of the model which a request was for; of a lone one for all requests."""
        if len(self._services) == 1:
            return self._services[0].model.fingerprint
        return next((each.model.fingerprint for each in self._services if each.model.name == context.model), None)

    async def readiness(self) -> list[tuple[Service, str | None]]:
        """Each model with what keeps it from being ready.

        One that hangs is waited for where no other is ready, and else not for long: whoever asks has little time, and
        must not take the others for dead.
        """
        checks = {service: asyncio.create_task(service.readiness.problem()) for service in self._services}
        _, late = await asyncio.wait(checks.values(), timeout=READY_SECONDS)
        if late and not any(check.done() and check.result() is None for check in checks.values()):
            await asyncio.wait(late)
        unanswered = f"no answer within {READY_SECONDS:g} s"
        return [(service, check.result() if check.done() else unanswered) for service, check in checks.items()]

    async def _chosen(self, context: RequestContext, service: Service) -> Manifest:
        context.model = service.model.name
        manifest = await service.model.manifest()
        context.model_id = printable(service.model.id_of(manifest))
        return manifest

    async def _by_id(self) -> dict[str, Service]:
        for service in self._services:
            if not service.model.name:  # then its variant is its name, which it has to say first
                await service.model.manifest()
        return {service.model.id: service for service in self._services}

    async def _named(self, key: Key | None, name: str | None) -> Service:
        if name == UNNAMED:
            name = None
        if name is None and (key is None or key.models is None):
            return self._services[0]  # whatever it is called, which it may not have said yet
        by_id = await self._by_id()
        if name is None:
            return self.default(key)
        if name in by_id:
            return by_id[name]
        if name in self._aliases:
            model = self._aliases[name]
            return self._services[0] if model is None else by_id[model]
        if (of_variant := await self._of_variant(name)) is not None:
            return of_variant
        if name and ANY_NAME in self._aliases:
            model = self._aliases[ANY_NAME]
            return self.default(key) if model is None else by_id[model]
        raise self._not_found(key, name)

    def _of_fingerprint(self, key: Key | None, fingerprint: str | None) -> Service | None:
        """The first model that has a fingerprint and may be used."""
        same = (each for each in self._services if each.model.known and each.model.fingerprint == fingerprint)
        return next((service for service in same if self._may_use(key, service)), None)

    async def _of_variant(self, name: str) -> Service | None:
        """The only model of this variant. What never answered is of none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                for service in self._services:
                    await service.model.looked.wait()
        found = [each for each in self._services if each.model.known and each.model.known.variant == name]
        return found[0] if len(found) == 1 else None

    def _may_use(self, key: Key | None, service: Service) -> bool:
        return key is None or key.models is None or service.model.id in key.models

    def _check(self, key: Key | None, service: Service) -> None:
        if key is not None and not self._may_use(key, service):
            raise ApiError("model_not_allowed", f"this key is for {', '.join(key.models or ())} alone", param="model")

    def _not_found(self, key: Key | None, name: str) -> ApiError:
        ids = [in_words(service.model.id) for service in self._services if self._may_use(key, service)]
        alias = f"--alias {shlex.quote(name[:ALIAS_CHARACTERS])}"
        if len(self._services) == 1:
            how = f"which a gateway started with {alias} serves by that name too, and one with --alias '*' by any"
        else:
            how = f"of which a gateway started with {alias}=MODEL serves one by that name too"
        there_are = f"there {'is' if len(ids) == 1 else 'are'} {', '.join(ids) or 'none for this key'}"
        return ApiError("model_not_found", f"there is no model {in_words(name)}; {there_are}, {how}", param="model")
