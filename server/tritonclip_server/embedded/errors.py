"""What keeps the embedded server from serving.

ServeError                every failure the launcher reports; the command prints it and exits 1
├── EnvironmentProblem    this Python or this machine cannot run the binary: libpython, NumPy 2, the wheel, TMPDIR
├── RepositoryProblem     the folder is no served repository, or its artifacts are missing
├── AddressProblem        no such port, no such address here, or it may not be used
│   └── PortInUse         another program listens where this server should
├── LogProblem            the log cannot be written
├── Stopped               it was asked to stop before it was ready
└── ServerDied            Triton, or one of its processes, ended; the message carries its own last errors
    └── StartLost         while it started, and by no fault of what it serves: another start may well succeed
"""


class ServeError(Exception):
    """A failure the launcher reports."""


class EnvironmentProblem(ServeError):
    """This Python, or this machine, cannot run the embedded Triton."""


class RepositoryProblem(ServeError):
    """The folder is no served repository, or its artifacts are missing."""


class AddressProblem(ServeError):
    """No such port, no such address on this machine, or one that may not be used."""


class PortInUse(AddressProblem):
    """Another program listens where this server should."""


class LogProblem(ServeError):
    """The log cannot be written."""


class Stopped(ServeError):
    """The server was asked to stop before it was ready."""


class ServerDied(ServeError):
    """Triton, or one of its processes, ended."""


class StartLost(ServerDied):
    """Triton ended while it started, or got nowhere, by no fault of what it serves."""
