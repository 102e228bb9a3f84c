"""What keeps the embedded server from serving.

ServeError                every failure the launcher reports; the command prints it and exits 1
├── EnvironmentProblem    this Python cannot run the binary: libpython, NumPy 2, the wheel
├── RepositoryProblem     the folder is no served repository, or its artifacts are missing
├── PortInUse             another program listens where this server should
└── ServerDied            Triton, or one of its processes, ended; the message carries its own last errors
"""


class ServeError(Exception):
    """A failure the launcher reports."""


class EnvironmentProblem(ServeError):
    """This Python cannot run the embedded Triton."""


class RepositoryProblem(ServeError):
    """The folder is no served repository, or its artifacts are missing."""


class PortInUse(ServeError):
    """Another program listens where this server should."""


class ServerDied(ServeError):
    """Triton, or one of its processes, ended."""
