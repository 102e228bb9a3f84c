"""Weaviate's module multi2vec-clip, by what it sends: it knows no key, so it asks a gateway without keys."""

# lines
CLIP_INFERENCE_API = "http://localhost:8080"
# end
import requests
from inputs import BASE64, TEXTS, answer


def vectorize():
    """Send what the module sends for an object with texts and images."""
    answered = requests.post(CLIP_INFERENCE_API + "/vectorize", json={"texts": TEXTS, "images": BASE64}, timeout=60)
    answered.raise_for_status()
    return answered.json()


def status(path):
    """Give the status with which the module waits for its server, or learns what it is."""
    return requests.get(CLIP_INFERENCE_API + path, timeout=60).status_code


answer(
    texts=lambda: vectorize()["textVectors"],
    images=lambda: vectorize()["imageVectors"],
    status_ready=lambda: status("/.well-known/ready"),
    status_meta=lambda: status("/meta"),
)
