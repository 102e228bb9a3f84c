"""One embedded Triton server: started, waited for, watched and stopped by the process that owns it."""

import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from tritonclip_server.embedded.claim import SHARED_MEMORY, Claim, clear_abandoned, new_identity
from tritonclip_server.embedded.environment import Installation, find_installation
from tritonclip_server.embedded.errors import LogProblem, PortInUse, ServerDied, StartLost, Stopped
from tritonclip_server.embedded.failed_start import LOST_SECONDS, TAKEN, Progress, failed_start
from tritonclip_server.embedded.family import Family, Stopping, drain, never
from tritonclip_server.embedded.outlet import LogFile, Outlet
from tritonclip_server.embedded.ports import (
    DEFAULT_PORTS,
    LOOPBACK,
    Ports,
    are_listened_on,
    find_port,
    find_ports,
    reachable,
    resolve,
)
from tritonclip_server.embedded.repository import check_repositories
from tritonclip_server.embedded.repository_folders import repositories_in
from tritonclip_server.embedded.stubs import instances, is_dead
from tritonclip_server.embedded.triton_tracing import trace_flags

__all__ = [
    "CACHE_BYTES",
    "CONNECTION_AGE_MS",
    "LOOPBACK",
    "METRICS_CONFIG",
    "OPERATOR_APIS",
    "PING_INTERVAL_MS",
    "Ports",
    "Server",
    "find_port",
]

# Only inference, metadata and health are for everyone; the rest needs the operator's key. Statistics tell nothing
# about anyone's data, and on loopback without a key they stay open so that `tritonclip status` can show them.
OPERATOR_APIS = "shared-memory,model-repository,model-config,trace,logging"
# Clients connect anew so often, which loses no request, and so find servers that were added under the same name.
CONNECTION_AGE_MS = 60_000
# Clients may ask this often whether a silent connection still lives. Triton's own limit is five minutes, and two hours
# for a connection without calls; it ends the connections of those who ask more often.
PING_INTERVAL_MS = 1_000
CACHE_BYTES = 64 * 2**20  # response cache of embed_text: about 20,000 texts
# Latency quantiles of the last minute, each with the rank error that is tolerated; Triton has none of them by itself.
METRICS_CONFIG = ("summary_latencies=true", "summary_quantiles=0.5:0.05,0.95:0.01,0.99:0.001")
# Where the processes of its models keep how much waits for an encoder (model_repository/image_preprocess/1/backlog.py):
# beside their other shared memory, and like it removed before they start anew.
BACKLOG_VARIABLE = "TRITONCLIP_BACKLOG"
METRICS_VARIABLE = "TRITONCLIP_METRICS"  # where those processes ask Triton how much that really is
STOP_SECONDS = 15
LOOK_SECONDS = 5.0  # between lists of the model processes
# Where a process of a model has died: what waits for that one holds Triton's end up to no purpose, and nobody new is
# served meanwhile.
BROKEN_PATIENCE_SECONDS = 3.0
# What Triton says once no inference is under way. Then it unloads one model after the other, for seconds, or for the
# whole of its timeout where one of their processes is dead; there is nothing in them to be saved.
DRAINED = "All models are stopped, unloading models"
ANSWERING_SECONDS = 0.5  # after that, for the last answers to be written
ERROR_CHARACTERS = 500  # of each of Triton's errors in ours; the log has them whole
START_ATTEMPTS = 3
# Said by every Triton on a machine with no GPU, and by none for another reason.
HARMLESS = ("CudaDriverHelper has not been initialized",)


class Server:
    """A running embedded Triton. Use it as a context manager, or call `start` and `stop`."""

    def __init__(
        self,
        repository: Path,
        ports: Ports = DEFAULT_PORTS,
        address: str = LOOPBACK,
        admin_key: str | None = None,
        log: Path | None = None,
        startup_seconds: float = 600.0,
        say: Callable[[str], object] = print,
    ) -> None:
        """`repository` is a served one, or a folder that holds some, all of which are served.

        `say` hears of what does not keep the server from serving, such as a log that cannot be written.
        """
        self.repository = repository.resolve()
        self.address = address
        self.ports = ports
        self.log = log
        self._admin_key = admin_key
        self._startup_seconds = startup_seconds
        self._say = say
        self.identity = new_identity()  # what Triton calls itself, and its shared memory
        self._errors: list[str] = []
        self._drained = threading.Event()
        self._stubs: dict[psutil.Process, str] = {}  # model instance by process
        self._looked = 0.0  # when they were listed
        self._watched: set[str] = set()  # the instances that must have a process
        self._installation: Installation | None = None
        self._family: Family | None = None
        self._reader: threading.Thread | None = None
        self._claim: Claim | None = None
        self._outlet: Outlet | None = None

    @property
    def grpc_url(self) -> str:
        """For tritonclip.Client, over gRPC."""
        return f"grpc://{reachable(self.address)}:{self.ports.grpc}"

    @property
    def http_url(self) -> str:
        """For tritonclip.Client, over HTTP."""
        return f"http://{reachable(self.address)}:{self.ports.http}"

    @property
    def metrics_url(self) -> str:
        """Triton's own metrics, in Prometheus' format."""
        return f"http://{reachable(self.address)}:{self.ports.metrics}/metrics"

    @property
    def pid(self) -> int:
        """The process id of tritonserver."""
        return self._running().pid

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, stopping: Stopping = never) -> None:
        """Start Triton and return once it is ready; a ServeError says why it cannot be, and leaves nothing running.

        Stopped is raised where `stopping` says meanwhile that it shall end.
        """
        check_repositories(self.repository)
        self._installation = find_installation()
        self.address = resolve(self.address)
        asked, self.ports = self.ports, find_ports(self.address, self.ports)
        self._open_log()
        clear_abandoned()
        try:
            self._claim = Claim(self.identity)
            self._installation.copy_backends(self._claim.folder)
            self._come_up(self._installation, self._claim, asked, stopping)
        except BaseException:
            self.stop(patience=0)
            raise

    def restart(self, stopping: Stopping = never) -> None:
        """End a Triton that has a fault and start it again, as `start` does; nothing is written to a disk for it."""
        if self._installation is None or self._claim is None:
            raise RuntimeError("the server was not started")
        self._end(BROKEN_PATIENCE_SECONDS)
        self._claim.clear_shared_memory()
        try:
            find_ports(self.address, self.ports)
            self._come_up(self._installation, self._claim, self.ports, stopping)
        except BaseException:
            self.stop(patience=0)
            raise

    def fault(self) -> str | None:
        """Why the server can no longer be trusted; None while it can.

        That is when Triton has ended, or when one of its Python model processes has: this Triton never replaces such a
        process, answers INTERNAL in its stead, and keeps saying that it is ready. A process that ended because its
        model was loaded again, or unloaded, is no fault.
        """
        code = self._running().poll()
        if code is not None:
            return f"Triton ended with code {code}"
        if time.monotonic() - self._looked > LOOK_SECONDS or any(map(is_dead, self._stubs)):
            self._look()
        missing = self._watched - {*self._stubs.values()}
        lost = {name for name in missing if self._has(name)}
        self._watched -= missing - lost
        return f"the process of {', '.join(sorted(lost))} died" if lost else None

    def stop(self, patience: float = STOP_SECONDS) -> None:
        """End Triton and its stubs, gently and then for certain, and remove what they leave behind.

        What has begun may still be answered within `patience` seconds.
        """
        self._end(patience)
        if self._claim is not None:
            self._claim.release()
            self._claim = None
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None

    def _running(self) -> Family:
        if self._family is None:
            raise RuntimeError("the server was not started")
        return self._family

    def _look(self) -> None:
        """List the living processes, and watch what they run: models may have been loaded since the last time."""
        self._stubs = {stub: name for stub, name in instances(self.pid).items() if not is_dead(stub)}
        self._watched |= {*self._stubs.values()}
        self._looked = time.monotonic()

    def _has(self, instance: str) -> bool:
        """Whether Triton believes to have the model of an instance such as image_encoder_0_0, or does not say."""
        try:
            model = httpx.get(f"{self.http_url}/v2/models/{instance.rsplit('_', 2)[0]}", timeout=5.0, trust_env=False)
        except httpx.HTTPError:
            return True
        return model.status_code not in (httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND)

    def _open_log(self) -> None:
        if self.log is None or self._outlet is not None:
            return
        try:
            self._outlet = Outlet(LogFile(self.log), str(self.log), self._say)
        except OSError as error:
            raise LogProblem(
                f"{self.log}: the log cannot be written ({error.strerror}); --log names another"
            ) from error

    def _come_up(self, installation: Installation, claim: Claim, asked: Ports, stopping: Stopping) -> None:
        """Launch Triton, and again where that failed by chance: a start was lost, or a port that may be any was taken.

        A port is free when it is looked for, and Triton takes it seconds later.
        """
        for attempts_left in reversed(range(START_ATTEMPTS)):
            try:
                self._launch(installation, claim, stopping)
                return
            except (PortInUse, StartLost) as error:
                if not attempts_left or (isinstance(error, PortInUse) and self.ports == asked):
                    raise
                self._say(f"{str(error).splitlines()[0]}; starting it again")
            self._end(patience=0)
            claim.clear_shared_memory()
            self.ports = find_ports(self.address, asked)

    def _launch(self, installation: Installation, claim: Claim, stopping: Stopping) -> None:
        self._drained.clear()
        self._errors.clear()
        self._stubs, self._watched = {}, set()
        self._family = Family(
            [str(installation.binary), *self._arguments(claim.folder, installation.caches)],
            installation.environment()
            | {
                BACKLOG_VARIABLE: str(SHARED_MEMORY / f"{self.identity}-backlog"),
                METRICS_VARIABLE: self.metrics_url,
            },
            hidden=self._restrictions(),
            warn=self._say,
            claim=claim,
        )
        self._reader = threading.Thread(
            target=drain, args=(self._family.output, self._take), name="triton-log", daemon=True
        )
        self._reader.start()
        self._wait_until_ready(stopping)

    def _end(self, patience: float) -> None:
        """End Triton and all its processes; what has begun may still be answered within `patience` seconds."""
        family = self._family
        if family is None:
            return
        if patience and family.poll() is None:
            family.terminate()
            deadline = time.monotonic() + patience
            while family.poll() is None and not self._drained.wait(0.1) and time.monotonic() < deadline:
                pass
            family.wait(ANSWERING_SECONDS)
        family.kill()
        if self._reader is not None:
            self._reader.join(timeout=5)
        self._family = None

    def _arguments(self, backends: Path, caches: Path) -> list[str]:
        arguments = {
            "id": self.identity,
            "backend-directory": backends,
            "cache-directory": caches,
            "cache-config": f"local,size={CACHE_BYTES}",
            # Models are loaded again when somebody with the operator's key says so, and never by themselves.
            "model-control-mode": "explicit",
            "load-model": "*",
            "exit-on-error": "true",
            "exit-timeout-secs": STOP_SECONDS - 5,
            "grpc-max-connection-age": CONNECTION_AGE_MS,
            "grpc-keepalive-permit-without-calls": 1,
            "grpc-http2-min-recv-ping-interval-without-data": PING_INTERVAL_MS,
            "http-port": self.ports.http,
            "grpc-port": self.ports.grpc,
            "metrics-port": self.ports.metrics,
        }
        arguments |= {f"{endpoint}-address": self.address for endpoint in ("http", "grpc", "metrics")}
        flags = [f"--{name}={value}" for name, value in arguments.items()]
        flags += [f"--model-repository={folder}" for folder in repositories_in(self.repository)]
        flags += [f"--metrics-config={setting}" for setting in METRICS_CONFIG]
        flags += ["--disable-auto-complete-config", *trace_flags(os.environ)]
        # Stubs name their shared memory after this server, so that what a killed one leaves can be told from others'.
        flags += [f"--backend-config={name},shm-region-prefix-name={self.identity}" for name in ("python", "pytorch")]
        return flags

    def _restrictions(self) -> list[str]:
        """The arguments that close the operator's APIs, with the key in them: random where nobody shall have one."""
        closed = OPERATOR_APIS if self._admin_key is None else f"{OPERATOR_APIS},statistics"
        key = self._admin_key or secrets.token_hex(16)
        return [f"--{flag}={closed}:admin-key={key}" for flag in ("http-restricted-api", "grpc-restricted-protocol")]

    def _take(self, line: str) -> None:
        """Keep a line of Triton's log, and remember its errors."""
        if self._outlet is not None:
            self._outlet.put(line)
        if DRAINED in line:
            self._drained.set()
        if line.startswith("E") and not any(phrase in line for phrase in HARMLESS):
            self._errors.append(line.strip()[:ERROR_CHARACTERS])
            del self._errors[:-10]

    def _wait_until_ready(self, stopping: Stopping) -> None:
        deadline = time.monotonic() + self._startup_seconds
        progress = Progress(self.pid)
        with httpx.Client(base_url=self.http_url, timeout=5.0, trust_env=False) as http:
            while time.monotonic() < deadline:
                if stopping():
                    raise Stopped("asked to stop before it was ready")
                code = self._running().poll()
                if code is not None or any(TAKEN in error for error in list(self._errors)):
                    ended = "before it was ready" if code is None else f"with code {code} before it was ready"
                    raise failed_start(self._obituary(f"Triton ended {ended}"), code)
                # It answers over HTTP before it listens for metrics, and ends where it cannot.
                if self.answers(http) and are_listened_on(self.ports, self.pid):
                    self._look()
                    return
                if progress.has_ended():
                    raise StartLost(self._obituary(f"Triton was not ready and did nothing for {LOST_SECONDS:.0f} s"))
                time.sleep(0.1)
        raise ServerDied(self._obituary(f"Triton was not ready after {self._startup_seconds:.0f} s"))

    def answers(self, http: httpx.Client) -> bool:
        """Whether THIS server is ready: a ready one on the same port could be somebody else's."""
        try:
            return http.get("/v2/health/ready").status_code == 200 and http.get("/v2").json()["name"] == self.identity
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return False

    def _obituary(self, headline: str) -> str:
        if self._reader is not None:
            self._reader.join(timeout=2)
        where = f"\nfull log: {self.log}" if self.log is not None else ""
        return "\n  ".join([headline, *self._errors]) + where
