"""infinity's generated client."""

# lines
from infinity_client import AuthenticatedClient

client = AuthenticatedClient(base_url="http://localhost:8080", token="tclip-KEY")
# end
from infinity_client.api.default import embeddings, health, rerank
from infinity_client.models import OpenAIEmbeddingInputText, RerankInput
from inputs import DOCUMENTS, QUERY, TEXTS, answer


def embed():
    """Embed texts."""
    found = embeddings.sync(client=client, body=OpenAIEmbeddingInputText(input_=TEXTS, model="demo"))
    return [row.embedding for row in found.data]


def rank():
    """Rank the documents."""
    found = rerank.sync(client=client, body=RerankInput(query=QUERY, documents=DOCUMENTS, model="demo"))
    return [[each.index, each.relevance_score] for each in found.results]


def healthy():
    """Give the status of the health route."""
    return health.sync_detailed(client=client).status_code


answer(texts=embed, rerank=rank, status=healthy)
