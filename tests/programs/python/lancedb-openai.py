"""LanceDB's `openai` of its registry of embedding functions."""

# lines
import os

from lancedb.embeddings import get_registry

os.environ["OPENAI_API_KEY"] = "tclip-KEY"  # LanceDB takes no key that is written into a table's schema
openai = get_registry().get("openai").create(base_url="http://localhost:8080/v1")
# end
from inputs import MANY, TEXTS, answer

answer(
    texts=lambda: openai.compute_source_embeddings(TEXTS),
    query=lambda: openai.compute_query_embeddings(TEXTS[0]),
    many=lambda: openai.compute_source_embeddings(MANY),
)
