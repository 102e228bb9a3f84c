"""One embedded Triton server: started, waited for, watched and stopped by the process that owns it."""

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import httpx
import psutil

from serve.environment import find_installation
from serve.errors import PortInUse, ServerDied
from serve.repository import check_repository

LOOPBACK = "127.0.0.1"
# Only inference, metadata and health are for everyone; the rest needs the operator's key. Statistics tell nothing
# about anyone's data, and on loopback without a key they stay open so that `tritonclip status` can show them.
OPERATOR_APIS = "shared-memory,model-repository,model-config,trace,logging"
# Clients connect anew so often, which loses no request, and so find servers that were added under the same name.
CONNECTION_AGE_MS = 60_000
CACHE_BYTES = 64 * 2**20  # response cache of embed_text: about 20,000 texts
# Latency quantiles of the last minute, each with the rank error that is tolerated; Triton has none of them by itself.
METRICS_CONFIG = ("summary_latencies=true", "summary_quantiles=0.5:0.05,0.95:0.01,0.99:0.001")
STOP_SECONDS = 15
# What Triton says once no inference is under way. Then it unloads one model after the other, for seconds, or for the
# whole of its timeout where one of their processes is dead; there is nothing in them to be saved.
DRAINED = "All models are stopped, unloading models"
ANSWERING_SECONDS = 0.5  # after that, for the last answers to be written
ERROR_CHARACTERS = 500  # of each of Triton's errors in ours; the log has them whole
# Said by every Triton on a machine with no GPU, and by none for another reason.
HARMLESS = ("CudaDriverHelper has not been initialized",)
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec there must be no import and no lock


@dataclass(frozen=True)
class Ports:
    """Where the server listens; 0 stands for any free port until the server starts."""

    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


class Server:
    """A running embedded Triton. Use it as a context manager, or call `start` and `stop`.

    Start it from a thread that outlives it: the kernel ends Triton with the thread that started it.
    """

    def __init__(
        self,
        repository: Path,
        ports: Ports = Ports(),
        address: str = LOOPBACK,
        admin_key: str | None = None,
        log: Path | None = None,
        startup_seconds: float = 600.0,
    ) -> None:
        self.repository = repository.resolve()
        self.address = address
        self.ports = ports
        self.log = log
        self._admin_key = admin_key
        self._startup_seconds = startup_seconds
        self._identity = f"tritonclip-{os.getpid()}-{secrets.token_hex(4)}"
        self._errors: list[str] = []
        self._drained = threading.Event()
        self._stubs: dict[int, str] = {}  # model instance by process id
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._backends: Path | None = None

    @property
    def grpc_url(self) -> str:
        """For tritonclip.Client, over gRPC."""
        return f"grpc://{self.address}:{self.ports.grpc}"

    @property
    def http_url(self) -> str:
        """For tritonclip.Client, over HTTP."""
        return f"http://{self.address}:{self.ports.http}"

    @property
    def pid(self) -> int:
        """The process id of tritonserver."""
        return self._running().pid

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start Triton and return once it is ready; a ServeError says why it cannot be, and leaves nothing running."""
        check_repository(self.repository)
        installation = find_installation()
        self.ports = find_ports(self.address, self.ports)
        self._backends = Path(tempfile.mkdtemp(prefix="tritonclip-backends-"))
        try:
            installation.copy_backends(self._backends)
            self._drained.clear()
            self._process = subprocess.Popen(
                [str(installation.binary), *self._arguments(self._backends, installation.caches)],
                env=installation.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # its stubs join its process group, so that all of them can be ended together
                preexec_fn=die_with_parent,
            )
            self._reader = threading.Thread(target=self._read_log, name="triton-log", daemon=True)
            self._reader.start()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def fault(self) -> str | None:
        """Why the server can no longer be trusted; None while it can.

        That is when Triton has ended, or when one of its Python model processes has: this Triton never replaces such a
        process, answers INTERNAL in its stead, and keeps saying that it is ready.
        """
        code = self._running().poll()
        if code is not None:
            return f"Triton ended with code {code}"
        dead = [name for pid, name in self._stubs.items() if _is_dead(pid)]
        return f"the process of {', '.join(dead)} died" if dead else None

    def terminate(self) -> None:
        """Ask Triton to finish what it has begun and end. Safe in a signal handler."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, patience: float = STOP_SECONDS) -> None:
        """End Triton and its stubs, gently and then for certain, and remove what they leave behind.

        What has begun may still be answered within `patience` seconds.
        """
        process = self._process
        if process is not None:
            self.terminate()
            deadline = time.monotonic() + patience
            while process.poll() is None and not self._drained.wait(0.1) and time.monotonic() < deadline:
                pass
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ANSWERING_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if self._reader is not None:
                self._reader.join(timeout=5)
        if self._backends is not None:
            shutil.rmtree(self._backends, ignore_errors=True)
        for region in Path("/dev/shm").glob(f"{self._identity}*"):  # noqa: S108 - where stubs keep shared memory
            region.unlink(missing_ok=True)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    def _arguments(self, backends: Path, caches: Path) -> list[str]:
        key = self._admin_key or secrets.token_hex(16)  # without one these APIs are closed to everyone
        restricted = [f"{OPERATOR_APIS}:admin-key={key}"]
        if self._admin_key is not None:
            restricted = [f"{OPERATOR_APIS},statistics:admin-key={key}"]
        arguments = {
            "id": self._identity,
            "model-repository": self.repository,
            "backend-directory": backends,
            "cache-directory": caches,
            "cache-config": f"local,size={CACHE_BYTES}",
            "model-control-mode": "none",
            "exit-on-error": "true",
            "exit-timeout-secs": STOP_SECONDS - 5,
            "grpc-max-connection-age": CONNECTION_AGE_MS,
            "http-port": self.ports.http,
            "grpc-port": self.ports.grpc,
            "metrics-port": self.ports.metrics,
        }
        arguments |= {f"{endpoint}-address": self.address for endpoint in ("http", "grpc", "metrics")}
        flags = [f"--{name}={value}" for name, value in arguments.items()]
        flags += [f"--metrics-config={setting}" for setting in METRICS_CONFIG]
        flags += ["--disable-auto-complete-config"]
        flags += [
            f"--{flag}={apis}" for apis in restricted for flag in ("http-restricted-api", "grpc-restricted-protocol")
        ]
        # Stubs name their shared memory after this server, so that what a killed one leaves can be told from others'.
        flags += [f"--backend-config={name},shm-region-prefix-name={self._identity}" for name in ("python", "pytorch")]
        return flags

    def _read_log(self) -> None:
        """Keep Triton's log, and remember its errors."""
        stream = self._running().stdout
        assert stream is not None  # noqa: S101 - it was opened as a pipe
        log = self.log.open("a", encoding="utf-8") if self.log is not None else None
        for line in stream:
            if log is not None:
                log.write(line)
                log.flush()
            if DRAINED in line:
                self._drained.set()
            if line.startswith("E") and not any(phrase in line for phrase in HARMLESS):
                self._errors.append(line.strip()[:ERROR_CHARACTERS])
                del self._errors[:-10]
        if log is not None:
            log.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._startup_seconds
        with httpx.Client(base_url=self.http_url, timeout=5.0, trust_env=False) as http:
            while time.monotonic() < deadline:
                code = self._running().poll()
                if code is not None:
                    raise ServerDied(self._obituary(f"Triton ended with code {code} before it was ready"))
                if self._answers(http):
                    self._stubs = {stub.pid: _instance(stub) for stub in psutil.Process(self.pid).children()}
                    return
                time.sleep(0.1)
        raise ServerDied(self._obituary(f"Triton was not ready after {self._startup_seconds:.0f} s"))

    def _answers(self, http: httpx.Client) -> bool:
        """Whether THIS server is ready: a ready one on the same port could be somebody else's."""
        try:
            return http.get("/v2/health/ready").status_code == 200 and http.get("/v2").json()["name"] == self._identity
        except (httpx.TransportError, ValueError):
            return False

    def _obituary(self, headline: str) -> str:
        if self._reader is not None:
            self._reader.join(timeout=2)
        where = f"\nfull log: {self.log}" if self.log is not None else ""
        return "\n  ".join([headline, *self._errors]) + where


def find_ports(address: str, ports: Ports) -> Ports:
    """The ports, with a free one in place of each 0; PortInUse where another program listens on one."""
    with contextlib.ExitStack() as held:  # all at once, or the same free port could be found twice
        return Ports(*(_find_port(held.enter_context(socket.socket()), address, port) for port in astuple(ports)))


def find_port(address: str, port: int) -> int:
    """The port, or a free one in place of 0; PortInUse where another program listens on it."""
    with socket.socket() as probe:
        return _find_port(probe, address, port)


def _find_port(probe: socket.socket, address: str, port: int) -> int:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no listener
    try:
        probe.bind((address, port))
    except OSError as error:
        raise PortInUse(
            f"cannot listen on {address}:{port} ({error.strerror}): another server may be running there; "
            "stop it, or choose other ports with --http-port, --grpc-port, --metrics-port and --gateway-port"
        ) from error
    return int(probe.getsockname()[1])


def die_with_parent() -> None:
    """Have the kernel end Triton when the launcher is killed without a chance to do it itself (Linux)."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _instance(stub: psutil.Process) -> str:
    """The model instance a stub runs, such as image_encoder_0_0: the last argument but one of its command."""
    return str(stub.cmdline()[-2])


def _is_dead(pid: int) -> bool:
    """Whether a process is gone, or is a zombie that Triton has not noticed."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
