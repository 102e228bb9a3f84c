"""What the gateway's encodings of vectors cost: recall and zero-shot accuracy with each, of the same features.

    python -m tests.sweep.encodings CAPTIONS LABELS --label-set NAME [--url URL]

    images, captions, labels ──Triton──> features ──gateway.encodings──> numbers ──compared as a store does──> shares

CAPTIONS and LABELS are data sets as `tritonclip evaluate retrieval` and `evaluate classification` take them. A label
stands in one template. uint8 orders vectors exactly as int8 does, once 128 is subtracted, and ubinary as binary does.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tritonclip import Client
from tritonclip.evaluation import first_hit_ranks, read_captioned, read_labelled
from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.responses.encodings import INT8_ONE, quantized

RECALLS = (1, 5, 10)
TEMPLATE = "a photo of a {}"
IntArray = npt.NDArray[np.int64]
Form = Callable[[FloatArray], FloatArray]
"""Features [N, D] in a form whose dot products are the similarities of an encoding."""


def as_float(features: FloatArray) -> FloatArray:
    """Cosines."""
    return features


def as_int8(features: FloatArray) -> FloatArray:
    """Dot products of int8, in units of cosines."""
    return np.asarray(quantized(features, "int8") / np.float32(INT8_ONE), np.float32)


def as_int8_of_length_1(features: FloatArray) -> FloatArray:
    """Cosines of int8."""
    rows = as_int8(features)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def as_signs(features: FloatArray) -> FloatArray:
    """±1 for each bit: a dot product is D minus twice the Hamming distance."""
    bits = np.unpackbits(quantized(features, "ubinary"), axis=1, count=features.shape[1])
    return bits * np.float32(2) - np.float32(1)


WAYS: Mapping[str, tuple[Form, Form]] = {  # the form of what is asked with, and of what is found
    "float": (as_float, as_float),
    "int8, uint8: cosine": (as_int8_of_length_1, as_int8_of_length_1),
    "int8, uint8: dot product": (as_int8, as_int8),
    "binary, ubinary: Hamming": (as_signs, as_signs),
    "binary, ubinary, asked with float": (as_float, as_signs),
}


@dataclass(frozen=True, eq=False)
class Features:
    """Images [N, D] and captions [T, D] with each caption's image [T]; images [M, D] with their classes [M] of [C, D].

    All are of length 1.
    """

    images: FloatArray
    captions: FloatArray
    owners: IntArray
    labelled: FloatArray
    truth: IntArray
    classes: FloatArray


@dataclass(frozen=True)
class Shares:
    """What was found with one encoding, as shares; the error of its cosines, where it has any."""

    text_to_image: tuple[float, ...]  # recall at 1, 5 and 10
    image_to_text: tuple[float, ...]
    top1: float
    cosine_error: float | None  # mean of |difference|, over all pairs of an image and a caption


def shares(found: Features, way: str) -> Shares:
    """What is found when vectors are compared in one of WAYS."""
    asked, stored = WAYS[way]
    groups = np.arange(len(found.images))
    texts = first_hit_ranks(asked(found.captions), found.owners, stored(found.images), groups)
    images = first_hit_ranks(asked(found.images), groups, stored(found.captions), found.owners)
    best = (asked(found.labelled) @ stored(found.classes).T).argmax(axis=1)
    error = None
    if way.startswith("int8"):
        cosines = found.images @ found.captions.T
        error = float(np.abs(asked(found.images) @ stored(found.captions).T - cosines).mean())
    return Shares(_recalls(texts), _recalls(images), float((best == found.truth).mean()), error)


def _recalls(ranks: IntArray) -> tuple[float, ...]:
    return tuple(float((ranks < k).mean()) for k in RECALLS)


def embed(client: Client, captions: Path, labels: Path, label_set: str) -> Features:
    """The features of both data sets; raises what the client does, for any item that fails."""
    retrieval = read_captioned(captions)
    known = client.manifest().label_set(label_set)
    labelled = read_labelled(labels, known).images
    return Features(
        client.embed_images(retrieval.paths).features,
        client.embed_texts(retrieval.captions).features,
        retrieval.image_of_caption,
        client.embed_images([image.path for image in labelled]).features,
        np.array([image.label for image in labelled]),
        client.embed_texts([TEMPLATE.format(name) for name in known.names]).features,
    )


def table(found: Features) -> str:
    """All WAYS as a table, in percent."""
    lines = [
        "| vectors | text to image @1, 5, 10 | image to text @1, 5, 10 | zero-shot top-1 | mean error of the cosine |",
        "|---|---|---|---|---|",
    ]
    for way in WAYS:
        row = shares(found, way)
        recalls = [
            " / ".join(f"{100 * share:.2f}" for share in both) for both in (row.text_to_image, row.image_to_text)
        ]
        error = "" if row.cosine_error is None else f"{row.cosine_error:.4f}"
        lines.append(f"| {way} | {' | '.join(recalls)} | {100 * row.top1:.2f} | {error} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    command = argparse.ArgumentParser(prog="python -m tests.sweep.encodings", description=__doc__)
    command.add_argument("captions", type=Path, metavar="CAPTIONS")
    command.add_argument("labels", type=Path, metavar="LABELS")
    command.add_argument("--label-set", required=True, metavar="NAME", help="what LABELS names")
    command.add_argument("--url", help="the Triton server (default: $TRITONCLIP_URL, else the client's)")
    options = command.parse_args(arguments)
    with Client(options.url) as client:
        found = embed(client, options.captions, options.labels, options.label_set)
    print(table(found))


if __name__ == "__main__":
    main()
