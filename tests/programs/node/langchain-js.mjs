// LangChain's OpenAIEmbeddings for JavaScript.

// lines
import { OpenAIEmbeddings } from "@langchain/openai";

const embeddings = new OpenAIEmbeddings({
  apiKey: "tclip-KEY",
  configuration: { baseURL: "http://localhost:8080/v1" },
});
// end
import { MANY, TEXTS, answer } from "./inputs.mjs";

await answer({
  texts: () => embeddings.embedDocuments(TEXTS),
  query: async () => [await embeddings.embedQuery(TEXTS[0])],
  many: () => embeddings.embedDocuments(MANY),
});
