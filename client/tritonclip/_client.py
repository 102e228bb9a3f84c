"""The blocking client."""

from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Self, TypeVar

from tritonclip import _defaults
from tritonclip._base_client import BaseClient
from tritonclip._core.drivers import SyncDriver
from tritonclip._core.effects import Operation
from tritonclip._core.modality import IMAGE, TEXT, ImageInput
from tritonclip._manifest import Manifest
from tritonclip._operations import classify, compare, embed, status, truncation
from tritonclip._operations.label_filter import LabelFilter
from tritonclip._operations.truncation import OnTruncation
from tritonclip._results import Classifications, Comparison, Embeddings, Status
from tritonclip.protocol.connection import Connection
from tritonclip.protocol.transport import Transport, open_transport

OnError = Literal["raise", "return"]
T = TypeVar("T")


class Client(BaseClient[Transport]):
    """Embeds images and texts, and compares them, on a Triton server.

    ``url`` is ``grpc://HOST:PORT``, ``grpcs://…``, ``http://…`` or ``https://…``; without it TRITONCLIP_URL counts,
    else grpc://localhost:8001. ``model`` names one of several that the server carries; else ``?model=NAME`` at the end
    of the URL does, else TRITONCLIP_MODEL. ``timeout`` is in seconds, for one request and its retries. Each call of a
    method keeps up to ``concurrency`` requests of up to ``batch_size`` items in flight (without one, 16 images or 64
    texts; never more than the server takes in one). ``transport`` replaces the network, for tests
    (``tritonclip.testing``).

    ``token`` (else TRITONCLIP_TOKEN) goes with each request as ``Authorization: Bearer``, and so do ``headers``. Over
    grpcs:// and https:// the server's certificate is checked, with ``ca_file`` (else TRITONCLIP_CA_FILE) as the only
    authority where there is one, and ``client_certificate`` with its ``client_key`` (else TRITONCLIP_CLIENT_CERTIFICATE
    and TRITONCLIP_CLIENT_KEY; PEM files) is shown to a server that asks. ``admin_key`` (else TRITONCLIP_ADMIN_KEY)
    opens statistics where the server restricts them.

    One client may be shared by any number of threads, and used in forked processes, which connect anew. Use it in a
    ``with`` block, or call ``close``; calls after that, and those under way, end with ClosedError.

    An image is a path, encoded bytes, a binary file, a PIL image, or a uint8 array [H,W], [H,W,3] or [H,W,4] in RGB
    order. Where several are expected any iterable will do, and is read only as fast as requests start; one image
    alone, or one string where texts are expected, is a list of one.

    The model reads so many tokens of a text (``manifest().context_length``) and no more. With ``on_truncation="warn"``
    a TruncationWarning names longer texts, and the result's ``truncated`` has their positions; with ``"raise"`` each
    is an InputError, and with ``"allow"`` nobody looks.

    Methods raise ConnectError where no server answers, a StatusError where it refuses or fails, InputError where an
    item cannot be used, ProtocolError where an answer cannot be true, and ConfigError for arguments that make no
    sense; all are TritonClipErrors.
    """

    def embed_images(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        on_error: OnError = "raise",
        progress: bool = False,
    ) -> Embeddings:
        """Embed images: features [N, D] float32, each row of length 1, in the order given.

        With ``on_error="raise"`` the first image that cannot be used raises InputError with its ``index``, and what is
        still running is given up. With ``"return"`` every other image gets its row, failed rows are NaN, and
        ``Embeddings.errors`` has the reasons; so have the images of a request that the server failed to answer, or
        answered with what cannot be a vector. Only what concerns all images (no server, no such model, no permission)
        still ends the run. No images give features [0, D]. ``progress`` shows a bar.
        """
        return self._run(embed.embed_images(self._session, IMAGE.source(images), on_error, progress))

    def embed_texts(
        self,
        texts: str | Iterable[str],
        *,
        on_error: OnError = "raise",
        on_truncation: OnTruncation = "warn",
        progress: bool = False,
    ) -> Embeddings:
        """Embed texts: features [N, D] float32, like ``embed_images``."""
        source = TEXT.source(texts)
        return self._run(embed.embed_texts(self._session, source, on_error, on_truncation, progress))

    def compare(
        self,
        images: ImageInput | Iterable[ImageInput],
        texts: str | Iterable[str],
        *,
        on_error: OnError = "raise",
        on_truncation: OnTruncation = "warn",
        progress: bool = False,
    ) -> Comparison:
        """Compare each image with each text: cosine, logits, probabilities, each [B, N] float32.

        Any numbers of both will do. The result's ``activation`` says whether probabilities are relative to the other
        texts. ``on_error`` is about images, as in ``embed_images``; a text that cannot be used always raises, for it
        would change the meaning of every probability.
        """
        return self._run(compare.compare(self._session, images, texts, on_error, on_truncation, progress))

    def classify(
        self,
        images: ImageInput | Iterable[ImageInput],
        labels: str | Iterable[str] | None = None,
        *,
        label_set: str | None = None,
        template: str = _defaults.TEMPLATE,
        top_k: int | None = None,
        threshold: float | None = None,
        min_cosine: float | None = None,
        on_error: OnError = "raise",
        on_truncation: OnTruncation = "warn",
        progress: bool = False,
    ) -> Classifications:
        """Find the labels that fit each image, best first, at most ``top_k`` of them.

        Either from ``labels``: each is put where the ``template`` has ``{}``, and the image is compared with the
        sentences that this makes (their features are kept for the next call). Or from a ``label_set`` that is stored
        on the server (``manifest().label_sets``), with the templates it was made with.

        Labels of a probability below ``threshold``, or of a cosine below ``min_cosine``, are left out; an image may
        then have none. The ``activation`` of the result, as of the manifest and its label sets, says what fits:

        - ``"softmax"``: a probability is relative to the other labels. The best of wrong ones is likely too, one label
          alone has none, and labels given must differ by more than white space (and case, where the model knows none).
          So ``min_cosine`` is for "none of these": a cosine is the label's own, and which ones are high, a few images
          of the kind tell.
        - ``"sigmoid"``: labels are independent. Each has a probability of its own, none or several may be high, and
          ``threshold`` is for "none of these".

        A label set that was trained has a softmax and no cosine. It refuses ``min_cosine``: take the ``threshold`` that
        it proposes (``manifest().label_sets[NAME].threshold``).
        """
        operation = classify.classify(
            self._session,
            images,
            labels,
            label_set,
            template=template,
            wanted=LabelFilter(top_k, threshold, min_cosine),
            on_error=on_error,
            on_truncation=on_truncation,
            progress=progress,
        )
        return self._run(operation)

    def count_tokens(self, texts: str | Iterable[str]) -> list[int]:
        """How many tokens each text has, start and end among them.

        The model reads ``manifest().context_length`` of them at most, and cuts a longer text there.
        """
        return self._run(truncation.count_tokens(self._session, TEXT.source(texts)))

    def manifest(self, *, refresh: bool = False) -> Manifest:
        """What the server says about its model; asked once, then remembered until ``refresh`` or ``status``."""
        return self._run(status.manifest(self._session, refresh=refresh))

    def status(self) -> Status:
        """Ask the server for its version, its models, its manifest, and its statistics."""
        return self._run(status.status(self._session, str(self._url)))

    def close(self) -> None:
        """Close all connections. The client cannot be used afterwards."""
        self._transport.close()

    def _open(self, connection: Connection) -> Transport:
        return open_transport(connection)

    def _run(self, operation: Operation[T]) -> T:
        return SyncDriver(self._transport).run(operation)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
