// Voyage's SDK for JavaScript.

// lines
import { VoyageAIClient } from "voyageai";

const client = new VoyageAIClient({ environment: "http://localhost:8080/v1", apiKey: "tclip-KEY" });
// end
import { DATA_URLS, DOCUMENTS, MANY, QUERY, TEXTS, answer } from "./inputs.mjs";

const embed = async (input) => (await client.embed({ model: "voyage-3.5", input })).data.map((row) => row.embedding);
const content = (url) => ({ content: [{ type: "image_base64", imageBase64: url }] });
await answer({
  texts: () => embed(TEXTS),
  many: () => embed(MANY),
  images: async () =>
    (await client.multimodalEmbed({ model: "voyage-multimodal-3", inputs: DATA_URLS.map(content) })).data.map(
      (row) => row.embedding,
    ),
  rerank: async () =>
    (await client.rerank({ model: "rerank-2.5", query: QUERY, documents: DOCUMENTS })).data.map(
      ({ index, relevanceScore }) => [index, relevanceScore],
    ),
});
