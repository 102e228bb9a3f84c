// Cohere's SDK for JavaScript.

// lines
import { CohereClientV2 } from "cohere-ai";

const client = new CohereClientV2({ environment: "http://localhost:8080", token: "tclip-KEY" });
// end
import { DOCUMENTS, QUERY, SOME, TEXTS, answer } from "./inputs.mjs";

const embed = async (texts) =>
  (await client.embed({ model: "embed-v4.0", inputType: "search_document", embeddingTypes: ["float"], texts })).embeddings
    .float;
await answer({
  texts: () => embed(TEXTS),
  some: () => embed(SOME),
  rerank: async () =>
    (await client.rerank({ model: "rerank-v3.5", query: QUERY, documents: DOCUMENTS })).results.map(
      ({ index, relevanceScore }) => [index, relevanceScore],
    ),
});
