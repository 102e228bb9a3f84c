"""One of the models that a gateway serves: what it is asked through, the name it goes by, and what is known of it."""

import asyncio
import logging
from collections.abc import Callable

from tritonclip import Manifest, ProtocolError, TritonClipError
from tritonclip_server.gateway.inference.engine import Engine
from tritonclip_server.gateway.logs import trace
from tritonclip_server.gateway.metrics import Metrics

REFRESH_SECONDS = 5.0  # how soon a model that is exchanged behind the gateway is noticed

log = logging.getLogger("gateway")


class ServedModel:
    """An engine under the name that the operator gave it; without one it goes by its variant."""

    def __init__(self, engine: Engine, metrics: Metrics, name: str = "") -> None:
        self.engine = engine
        self.name = name
        self.known: Manifest | None = None  # as it was last read
        self.looked = asyncio.Event()  # set once it was asked for its manifest, whether it answered or not
        self._metrics = metrics
        self._fault: str | None = None  # of the manifest as it was last asked for

    @property
    def fingerprint(self) -> str | None:
        """Its fingerprint, once it is known."""
        return None if self.known is None else self.known.fingerprint

    @property
    def id(self) -> str:
        """What the API calls it; of a model without a name, once it is known."""
        return self.id_of(self.known)

    @property
    def _which(self) -> str:
        return f" ({self.name})" if self.name else ""

    def id_of(self, manifest: Manifest | None) -> str:
        """What the API calls it while this is its manifest."""
        return self.name or (manifest and manifest.variant) or "default"

    async def manifest(self, *, refresh: bool = False) -> Manifest:
        """What is deployed: as remembered, or asked for anew.

        ProtocolError where it makes no sense, or two servers behind this one name serve different models; until that
        is mended nothing is answered, rather than what may be wrong.
        """
        if self._fault is not None and not refresh:
            raise ProtocolError(self._fault)
        try:
            manifest = await self.engine.manifest(refresh=refresh)
        except ProtocolError as error:
            self._fault = str(error)
            raise
        self._fault = None
        if manifest is not self.known:
            self.known = manifest
            self._metrics.describe(self.name, manifest.variant, manifest.fingerprint)
        return manifest

    async def keep_fresh(self, notice: Callable[[], object]) -> None:
        """Keep what is known of it fresh, and say so: its fingerprint labels answers, and the text cache goes by it."""
        unexpected: type[Exception] | None = None
        while True:
            fault = self._fault
            try:
                await self.manifest(refresh=True)
                notice()
                unexpected = None
            except ProtocolError as error:
                if str(error) != fault:
                    log.error("nothing is answered%s: %s", self._which, error)
                unexpected = None
            except TritonClipError:  # requests find out by themselves
                unexpected = None
            except Exception as error:  # whatever it is: without this the gateway would never notice another model
                if unexpected is not type(error):
                    log.error(
                        "the model's manifest cannot be read%s; this is tried again\n%s", self._which, trace(error)
                    )
                unexpected = type(error)
            self.looked.set()
            await asyncio.sleep(REFRESH_SECONDS)
