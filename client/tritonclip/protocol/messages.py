"""What passes between the client's logic and its transports: calls and replies, free of any wire format.

An operation makes a Call, a transport turns it into gRPC or HTTP (through the codecs), and brings back the Reply that
belongs to it: InferRequest → InferResponse, ServerInfoRequest → ServerInfo, ModelReadyRequest → bool,
StatisticsRequest → a tuple of ModelStatistics, LoadModelRequest and UnloadModelRequest → True.
"""

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tritonclip._errors import ProtocolError

FloatArray = npt.NDArray[np.float32]
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """A named tensor with its data as Triton has it on the wire.

    FP32 and INT32 are little-endian; each BYTES element is a four-byte little-endian length and then its bytes.
    Reading validates lengths against the shape, and raises ProtocolError.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def from_items(cls, name: str, items: Iterable[bytes]) -> "Tensor":
        """A BYTES tensor of shape [N, 1], the shape of every list of items here."""
        parts: list[bytes] = []
        for item in items:
            parts += (_LENGTH.pack(len(item)), item)
        return cls(name, "BYTES", (len(parts) // 2, 1), b"".join(parts))

    @classmethod
    def from_array(cls, name: str, array: FloatArray) -> "Tensor":
        """An FP32 tensor of the array's shape."""
        return cls(name, "FP32", array.shape, np.ascontiguousarray(array, dtype="<f4").tobytes())

    def items(self) -> list[bytes]:
        """The elements of a BYTES tensor."""
        self._check("BYTES")
        items: list[bytes] = []
        position = 0
        while position < len(self.data):
            start = position + _LENGTH.size
            if start > len(self.data):
                raise ProtocolError(f"tensor {self.name}: {len(self.data) - position} bytes where a length should be")
            position = start + _LENGTH.unpack_from(self.data, start - _LENGTH.size)[0]
            if position > len(self.data):
                raise ProtocolError(f"tensor {self.name}: element {len(items)} reaches past the end of the data")
            items.append(self.data[start:position])
        if len(items) != math.prod(self.shape):
            raise ProtocolError(f"tensor {self.name}: {len(items)} elements for shape {list(self.shape)}")
        return items

    def array(self) -> FloatArray:
        """The values of an FP32 tensor, as a new array."""
        self._check("FP32")
        if 4 * math.prod(self.shape) != len(self.data):
            raise ProtocolError(f"tensor {self.name}: {len(self.data)} bytes for FP32 of shape {list(self.shape)}")
        return np.frombuffer(self.data, dtype="<f4").reshape(self.shape).astype(np.float32)

    def integers(self) -> npt.NDArray[np.int32]:
        """The values of an INT32 tensor."""
        self._check("INT32")
        if 4 * math.prod(self.shape) != len(self.data):
            raise ProtocolError(f"tensor {self.name}: {len(self.data)} bytes for INT32 of shape {list(self.shape)}")
        return np.frombuffer(self.data, dtype="<i4").reshape(self.shape)

    def _check(self, datatype: str) -> None:
        if self.datatype != datatype or min(self.shape, default=0) < 0:
            raise ProtocolError(f"tensor {self.name} is {self.datatype} {list(self.shape)}, expected {datatype}")


@dataclass(frozen=True)
class InferRequest:
    """One inference: the tensors given and the names of those wanted.

    ``classes`` asks for some outputs in the form of Triton's classification extension: so many of the highest values of
    each row, as texts ``VALUE:INDEX:LABEL``, instead of the tensor. ``id`` is what Triton's errors and spans name it
    by. ``headers`` are its own, beside the connection's: gRPC's metadata or HTTP's headers, with names in lower case.
    """

    model: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    classes: Mapping[str, int] = field(default_factory=dict)
    id: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class InferResponse:
    """The tensors that came back."""

    outputs: tuple[Tensor, ...]

    def __getitem__(self, name: str) -> Tensor:
        for tensor in self.outputs:
            if tensor.name == name:
                return tensor
        raise ProtocolError(f"the response lacks {name!r}; it has {[tensor.name for tensor in self.outputs]}")


@dataclass(frozen=True)
class ServerInfoRequest:
    """Asks for the server's name and version."""

    model: None = None


@dataclass(frozen=True)
class ServerInfo:
    """What the server calls itself."""

    name: str
    version: str


@dataclass(frozen=True)
class ModelReadyRequest:
    """Asks whether a model is loaded and answers; one that the server does not have is not ready."""

    model: str


@dataclass(frozen=True)
class StatisticsRequest:
    """Asks for the statistics of all models; servers may restrict this to holders of the admin key."""

    model: None = None


@dataclass(frozen=True)
class LoadModelRequest:
    """Has a server load a model from its repository, or load it again where its files are newer: for the admin key.

    The one that is loaded serves on until the other one is ready, or fails. ``config`` is one in place of the file's,
    as JSON. The server must have been started with ``--model-control-mode=explicit``.
    """

    model: str
    config: str | None = None


@dataclass(frozen=True)
class UnloadModelRequest:
    """Has a server unload a model once the requests under way have ended: for the admin key."""

    model: str


@dataclass(frozen=True)
class ModelStatistics:
    """What Triton has counted for one model since it was loaded.

    ``inference_count`` counts items, ``execution_count`` executions: their ratio is the mean batch. Durations are means
    in milliseconds over the requests that came to that stage (0.0 where none did).
    """

    name: str
    version: str
    inference_count: int
    execution_count: int
    queue_ms: float
    compute_ms: float

    @property
    def mean_batch(self) -> float:
        """Items in an execution, on average; 0.0 before the first."""
        return self.inference_count / self.execution_count if self.execution_count else 0.0


OperatorCall = StatisticsRequest | LoadModelRequest | UnloadModelRequest
"""The calls that go with the admin key, where there is one."""

Call = InferRequest | ServerInfoRequest | ModelReadyRequest | OperatorCall
Reply = InferResponse | ServerInfo | bool | tuple[ModelStatistics, ...]


def mean_ms(count: int, nanoseconds: int) -> float:
    """Mean milliseconds, from Triton's pair of a count and a sum."""
    return nanoseconds / count / 1e6 if count else 0.0
