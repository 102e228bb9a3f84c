// OpenAI's SDK for JavaScript.

// lines
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://localhost:8080/v1", apiKey: "tclip-KEY" });
// end
import { DATA_URLS, MANY, TEXTS, answer } from "./inputs.mjs";

const embed = async (input) =>
  (await client.embeddings.create({ model: "text-embedding-3-small", input })).data.map((row) => row.embedding);

await answer({
  texts: () => embed(TEXTS),
  many: () => embed(MANY),
  images: () => embed(DATA_URLS),
});
