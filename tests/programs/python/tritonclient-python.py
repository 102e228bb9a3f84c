"""NVIDIA's tritonclient, which asks Triton itself: there is no gateway and no key between."""

# lines
import tritonclient.grpc
import tritonclient.http

over_grpc = tritonclient.grpc.InferenceServerClient("localhost:8001")
over_http = tritonclient.http.InferenceServerClient("localhost:8000")
# end
import numpy as np
from inputs import IMAGES, TEXTS, answer


def embed(module, client, model, tensor, items):
    """Embed items of bytes, one row each."""
    given = module.InferInput(tensor, [len(items), 1], "BYTES")
    given.set_data_from_numpy(np.array([[item] for item in items], dtype=object))
    return client.infer(model, [given]).as_numpy(f"{tensor}_features")


ENCODED = [text.encode() for text in TEXTS]
FILES = [path.read_bytes() for path in IMAGES]
answer(
    texts=lambda: embed(tritonclient.grpc, over_grpc, "embed_text", "text", ENCODED),
    texts_http=lambda: embed(tritonclient.http, over_http, "embed_text", "text", ENCODED),
    images=lambda: embed(tritonclient.grpc, over_grpc, "embed_image", "image", FILES),
    images_http=lambda: embed(tritonclient.http, over_http, "embed_image", "image", FILES),
)
