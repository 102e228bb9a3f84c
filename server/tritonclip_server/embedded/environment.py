"""Where the embedded Triton lies in this Python environment, and whether it can run here."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tritonclip_server.embedded.errors import EnvironmentProblem
from tritonclip_server.resources import MODEL_REPOSITORY

STAND_IN = Path(__file__).with_name("backend") / "pytorch" / "model.py"
# What the stand-in tells image_preprocess of its queue, in words that both know.
BACKLOG = MODEL_REPOSITORY / "image_preprocess" / "1" / "backlog.py"


@dataclass(frozen=True)
class Installation:
    """The parts of the wheel's Triton that a server needs."""

    binary: Path
    python_backend: Path
    stub: Path
    caches: Path
    libraries: Path
    libpython: Path

    def environment(self) -> dict[str, str]:
        """Variables for the server: its stubs embed this Python and import from this environment."""
        # The stub's interpreter starts isolated: it ignores PYTHONPATH and PYTHONHOME, and finds its environment, a
        # virtual one included, as a shell would find `python3`: by PATH.
        return os.environ | {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            "LD_LIBRARY_PATH": os.pathsep.join((str(self.libpython.parent), str(self.libraries))),
            # Encoders share the cores with decoding: a thread that waits for one pushed aside must not spin meanwhile.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            "TOKENIZERS_PARALLELISM": "false",  # one stub is one worker; batching across stubs is Triton's
        }

    def copy_backends(self, folder: Path) -> None:
        """Lay out a `--backend-directory`: the Python backend with this Python's stub, and the LibTorch stand-in."""
        if os.statvfs(folder).f_flag & os.ST_NOEXEC:
            raise EnvironmentProblem(
                f"no program may run from {folder.parent} (it is mounted noexec), and Triton starts its Python models "
                "from there: set TMPDIR to a folder where programs may"
            )
        # Copies, not links: Triton refuses a library that really lies outside the backend directory.
        try:
            for name, sources in (("python", self._python_backend_files()), ("pytorch", [STAND_IN, BACKLOG])):
                (folder / name).mkdir()
                for source in sources:
                    shutil.copy(source, folder / name)
        except OSError as error:
            raise EnvironmentProblem(
                f"Triton's backends cannot be copied to {folder} ({error.strerror}): TMPDIR names another place"
            ) from error

    def _python_backend_files(self) -> list[Path]:
        names = ("libtriton_python.so", "triton_python_backend_utils.py")
        return [*(self.python_backend / name for name in names), self.stub]


def spare_from_proxies(environment: Mapping[str, str], *hosts: str) -> dict[str, str]:
    """The variables that keep proxies away from these hosts and from loopback, beside what they spare already."""
    spared = [environment.get("no_proxy", ""), environment.get("NO_PROXY", ""), "localhost", "127.0.0.1", *hosts]
    value = ",".join(dict.fromkeys(host for entry in spared for host in entry.replace(" ", "").split(",") if host))
    return {"no_proxy": value, "NO_PROXY": value}


def find_installation() -> Installation:
    """Locate the wheel's Triton; EnvironmentProblem names what is missing and what to do about it."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise EnvironmentProblem("the embedded Triton is not installed: pip install nvidia-pytriton (or `make setup`)")
    check_numpy(importlib.metadata.version("numpy"))
    root = Path(spec.origin).parent / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise EnvironmentProblem(f"the embedded Triton has no stub for Python {version}; it has 3.8 to 3.13")
    return Installation(
        binary=root / "bin" / "tritonserver",
        python_backend=root / "backends" / "python",
        stub=stub,
        caches=root / "caches",
        libraries=root.parents[1] / "nvidia_pytriton.libs",
        libpython=find_libpython(f"libpython{version}.so.1.0"),
    )


def check_numpy(version: str) -> None:
    """EnvironmentProblem under NumPy 2: the 2.51 stub then corrupts BYTES tensors and dies."""
    if int(version.split(".", 1)[0]) >= 2:
        raise EnvironmentProblem(
            f"NumPy {version} is installed; the embedded Triton needs NumPy 1: pip install 'numpy<2' (or `make setup`)"
        )


def find_libpython(name: str) -> Path:
    """The shared library that the stub embeds Python with; a Python built without it cannot run stubs."""
    folders = [Path(sys.base_prefix) / "lib"]
    folders += [Path(folder) for key in ("LIBDIR", "LIBPL") if (folder := sysconfig.get_config_var(key))]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [Path("/usr/lib") / multiarch] if multiarch else []
    folders += [Path("/usr/lib64"), Path("/usr/lib"), Path("/usr/local/lib")]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    package = name.removesuffix(".so.1.0")
    raise EnvironmentProblem(
        f"{name} is missing, with which Triton's Python models run: install it (Debian: apt-get install {package}), "
        "or use a Python that was built with --enable-shared"
    )
