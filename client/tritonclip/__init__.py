"""Client for CLIP models on Triton: embeddings, similarity, and zero-shot classification, over gRPC or HTTP.

>>> import tritonclip
>>> with tritonclip.Client("grpc://localhost:8001") as client:
...     client.compare("cat.jpg", ["a cat", "a dog"]).probabilities

How a call flows through the package: a client's method makes an operation (``_operations``, pure generators), a driver
performs its effects (``_core``, which also says how to read a traceback), and a transport sends its calls, written by
a codec as gRPC or HTTP (``protocol``, public for those who want single calls). ``labels`` tells when two labels are
one to a model. ``testing`` has a server without a network.
"""

from tritonclip._async_client import AsyncClient
from tritonclip._client import Client
from tritonclip._core.modality import ImageInput
from tritonclip._errors import (
    ClosedError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    InputError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RequestCancelledError,
    ResourceExhaustedError,
    ServerError,
    StatusError,
    TritonClipError,
    UnavailableError,
    UnsupportedError,
)
from tritonclip._manifest import Activation, LabelSet, Manifest
from tritonclip._operations.truncation import TruncationWarning
from tritonclip._results import Classifications, Comparison, Embeddings, Prediction, Status
from tritonclip._version import __version__
from tritonclip.protocol.messages import ModelStatistics

__all__ = [
    "Activation",
    "AsyncClient",
    "Classifications",
    "Client",
    "ClosedError",
    "Comparison",
    "ConfigError",
    "ConnectError",
    "DeadlineExceededError",
    "Embeddings",
    "ImageInput",
    "InputError",
    "InvalidArgumentError",
    "LabelSet",
    "Manifest",
    "ModelStatistics",
    "NotFoundError",
    "PermissionDeniedError",
    "Prediction",
    "ProtocolError",
    "RequestCancelledError",
    "ResourceExhaustedError",
    "ServerError",
    "Status",
    "StatusError",
    "TritonClipError",
    "TruncationWarning",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
]
