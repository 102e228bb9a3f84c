"""What programs send with no SDK of their own: Jina's, vLLM's, NVIDIA's and TEI's bodies, by requests."""

# lines
import requests

session = requests.Session()
session.headers["authorization"] = "Bearer tclip-KEY"
url = "http://localhost:8080"
# end
from inputs import BASE64, DATA_URLS, DOCUMENTS, LABELS, QUERY, TEXTS, answer


def post(path, body):
    """Give what a POST answers, or raise with its words."""
    answered = session.post(url + path, json=body)
    if not answered.ok:
        raise RuntimeError(f"{answered.status_code} {answered.text}")
    return answered.json()


def vectors(body, path="/v1/embeddings"):
    """Give the vectors of an answer in OpenAI's shape."""
    return [row["embedding"] for row in post(path, body)["data"]]


def ranked(body, path):
    """Give indexes and scores of an answer in Cohere's shape."""
    return [[each["index"], each["relevance_score"]] for each in post(path, body)["results"]]


def chat(content):
    """Embed one message, as vLLM's multimodal models take it."""
    message = {"role": "user", "content": content}
    return vectors({"model": "demo", "messages": [message], "encoding_format": "float"})[0]


JINA = {"model": "jina-clip-v2", "normalized": True, "embedding_type": "float"}
answer(
    texts_jina=lambda: vectors(JINA | {"input": [{"text": text} for text in TEXTS]}),
    images_jina=lambda: vectors(JINA | {"input": [{"image": file} for file in BASE64]}),
    labels_jina=lambda: {
        each["label"]: each["score"]
        for each in post("/v1/classify", {"model": "jina-clip-v2", "input": [{"image": BASE64[0]}], "labels": LABELS})[
            "data"
        ][0]["predictions"]
    },
    images_nvclip=lambda: vectors({"model": "nvidia/nvclip", "input": DATA_URLS, "encoding_format": "float"}),
    images_vllm=lambda: [chat([{"type": "image_url", "image_url": {"url": each}}]) for each in DATA_URLS],
    texts_vllm=lambda: [chat([{"type": "text", "text": text}]) for text in TEXTS],
    rerank_vllm=lambda: ranked({"model": "demo", "query": QUERY, "documents": DOCUMENTS}, "/rerank"),
    scores_vllm=lambda: [
        [each["index"], each["score"]]
        for each in post("/score", {"model": "demo", "text_1": QUERY, "text_2": DOCUMENTS})["data"]
    ],
    logits_nim=lambda: [
        [each["index"], each["logit"]]
        for each in post(
            "/v1/ranking",
            {"model": "demo", "query": {"text": QUERY}, "passages": [{"text": text} for text in DOCUMENTS]},
        )["rankings"]
    ],
    texts_tei=lambda: post("/embed", {"inputs": TEXTS}),
    rerank_tei=lambda: [
        [each["index"], each["score"]] for each in post("/rerank", {"query": QUERY, "texts": DOCUMENTS})
    ],
)
