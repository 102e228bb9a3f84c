// LangChain's CohereEmbeddings and CohereRerank for JavaScript, over Cohere's own client.

// lines
import { CohereEmbeddings, CohereRerank } from "@langchain/cohere";
import { CohereClient } from "cohere-ai";

const client = new CohereClient({ environment: "http://localhost:8080", token: "tclip-KEY" });
const embeddings = new CohereEmbeddings({ client, model: "embed-v4.0" });
const ranker = new CohereRerank({ client, model: "rerank-v3.5" });
// end
import { DOCUMENTS, QUERY, SOME, TEXTS, answer } from "./inputs.mjs";

await answer({
  texts: () => embeddings.embedDocuments(TEXTS),
  some: () => embeddings.embedDocuments(SOME),
  rerank: async () =>
    (await ranker.rerank(DOCUMENTS, QUERY)).map(({ index, relevanceScore }) => [index, relevanceScore]),
});
