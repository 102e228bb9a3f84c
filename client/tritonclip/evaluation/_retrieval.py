"""Retrieval over a whole data set: every caption looks for its image, and every image for one of its captions.

CaptionedImages ──embed_image, embed_text──> features ──_ranks, both ways──> recall@1, 5, 10
"""

import time
from dataclasses import dataclass

import numpy as np

from tritonclip._client import Client
from tritonclip._errors import ProtocolError, TritonClipError
from tritonclip._manifest import Manifest
from tritonclip.evaluation._captioned import CaptionedImages
from tritonclip.evaluation._proportion import Proportion
from tritonclip.evaluation._ranks import IntArray, first_hit_ranks


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """How many wrong answers stand before the first right one, for each query.

    ``text_to_image`` [captions] counts images before a caption's own ("image retrieval" in papers), ``image_to_text``
    [images] counts captions before the best of an image's own ("text retrieval"). Images and captions that failed are
    in neither, as query or as answer, and ``failures`` has their errors by name; with an image go its captions. An
    image that lost all its captions is still an answer.
    """

    manifest: Manifest
    text_to_image: IntArray
    image_to_text: IntArray
    failures: dict[str, TritonClipError]
    seconds: float

    @property
    def scored(self) -> bool:
        """Whether there is anything to take a share of."""
        return bool(len(self.text_to_image))

    def recall_text_to_image(self, k: int) -> Proportion:
        """The share of captions whose image is among the best k."""
        return _recall(self.text_to_image, k)

    def recall_image_to_text(self, k: int) -> Proportion:
        """The share of images with any of their captions among the best k."""
        return _recall(self.image_to_text, k)


def evaluate_retrieval(client: Client, data: CaptionedImages, *, progress: bool = False) -> RetrievalResult:
    """Embed all images and captions, and rank them against each other.

    Raises ProtocolError where the server's model changes during the run, and what ``Client.embed_images`` raises.
    """
    manifest = client.manifest()
    started = time.perf_counter()
    images = client.embed_images(data.paths, on_error="return", progress=progress)
    texts = client.embed_texts(data.captions, on_error="return", progress=progress)
    seconds = time.perf_counter() - started
    now = client.status().manifest
    if now is None or now.fingerprint != manifest.fingerprint:
        raise ProtocolError("the server's model changed during the run: these vectors do not belong together")

    failures = {data.names[row]: error for row, error in images.errors.items()}
    failures |= {f"caption {row + 1} of {data.names[data.image_of_caption[row]]}": e for row, e in texts.errors.items()}
    groups = np.arange(len(data.names))
    good_images = ~np.isin(groups, list(images.errors))
    good_texts = good_images[data.image_of_caption] & ~np.isin(np.arange(len(data.captions)), list(texts.errors))
    owners = data.image_of_caption[good_texts]
    asked = good_images & np.isin(groups, owners)
    return RetrievalResult(
        manifest,
        first_hit_ranks(texts.features[good_texts], owners, images.features[good_images], groups[good_images]),
        first_hit_ranks(images.features[asked], groups[asked], texts.features[good_texts], owners),
        failures,
        seconds,
    )


def _recall(ranks: IntArray, k: int) -> Proportion:
    return Proportion(int((ranks < k).sum()), len(ranks))
