// Search: a sentence, an image or a row of an index becomes one search; what it finds becomes a grid to go on from.
// Shares the helpers of page.js, which comes before it. The part stays hidden where this gateway serves no index.
"use strict";

let searches = 0; // so far: an answer that another search has overtaken is not shown
let thumbnails = []; // object URLs of those on screen
let lastSearch = null; // the last one, as fields, with the image's file beside them; null: nothing was asked yet

const indexName = () => find("index").value;
const nameOf = (uri) => uri.split(/[/#]/).filter(Boolean).pop() ?? uri;

// The indexes to choose from; none where a key is needed first, which the line under the page's title says.
async function listIndexes() {
  const indexes = await call("/v1/indexes").then(({ data }) => data, () => []);
  find("search").hidden = !indexes.length;
  find("choose-index").hidden = indexes.length < 2;
  find("index").replaceChildren(...indexes.map(({ id, rows }) => make("option", { value: id, textContent: `${id} (${rows} images)` })));
  if (indexes.length) await showSamples();
}

function showSamples() {
  lastSearch = null;
  return showFound("Or begin with one of these", "This index is empty.", () => call(`/v1/indexes/${indexName()}/samples`));
}

function search(title, fields, file = null) {
  lastSearch = { fields: { index: indexName(), ...fields }, file };
  return showFound(title, "Nothing fits.", () => call("/v1/search", { method: "POST", body: body(lastSearch) }));
}

function body({ fields, file }) {
  if (!file) return new Blob([JSON.stringify(fields)], { type: "application/json" });
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("image", file, file.name);
  return form;
}

// What is found, under a title, or why nothing is; of several searches under way the last one's.
async function showFound(title, none, ask) {
  const number = ++searches;
  find("found").setAttribute("aria-busy", "true");
  tell("Searching…");
  writeSearch();
  try {
    const answer = await ask();
    const pictures = await Promise.all(answer.data.map(picture));
    if (number !== searches) return pictures.forEach(forget);
    find("found-title").textContent = title;
    fill(answer.data, pictures);
    const cut = answer.query_truncated ? "The sentence is longer than the model reads: it did not see the end." : "";
    tell(answer.data.length ? cut : none);
  } catch (error) {
    if (number === searches) tell(error.message, true);
  }
  if (number === searches) find("found").setAttribute("aria-busy", "false");
}

// The thumbnail of a row. It needs the key, as all else does, and an <img> sends none.
async function picture({ thumbnail }) {
  if (!thumbnail) return null;
  const response = await fetch(thumbnail, { headers: headers() });
  return response.ok ? URL.createObjectURL(await response.blob()) : null;
}

const forget = (url) => { if (url) URL.revokeObjectURL(url); };

function fill(rows, pictures) {
  const focused = find("grid").contains(document.activeElement);
  thumbnails.forEach(forget);
  thumbnails = pictures;
  find("grid").replaceChildren(...rows.map((row, index) => tile(row, pictures[index])));
  if (focused) find("grid").querySelector("button")?.focus();
}

function tile({ id, uri, score }, url) {
  const name = nameOf(uri);
  const cosine = score === undefined ? [] : [make("span", { className: "score", textContent: score.toFixed(3) })];
  const button = make("button", { type: "button", title: uri },
    make("span", { className: "picture" }, ...(url ? [make("img", { src: url, alt: "" })] : [])),
    make("span", { className: "name", textContent: name }), ...cosine);
  button.setAttribute("aria-label", `More like ${name}${cosine.map(({ textContent }) => `, cosine ${textContent}`)}`);
  button.addEventListener("click", () => search(`Like ${name}`, { like: id }));
  return make("li", {}, button);
}

function tell(text, wrong = false) {
  find("search-message").textContent = text;
  find("search-message").className = wrong ? "wrong" : "note";
}

function writeSearch() {
  const { fields, file } = lastSearch ?? { fields: { index: indexName(), text: "a red bicycle" } };
  const sent = file
    ? [`-F image=@${shell(file.name)}`, ...Object.entries(fields).map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`)]
    : ['-H "content-type: application/json"', `-d ${shell(JSON.stringify(fields))}`];
  const key = find("key").value.trim() ? ['-H "Authorization: Bearer $KEY"'] : [];
  find("search-curl").textContent = [`curl -s ${location.origin}/v1/search`, ...key, ...sent].join(" \\\n  ");
}

function beginSearch() {
  const lookLike = ([file]) => file && search(`Like ${file.name}`, {}, file);
  find("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = find("query").value.trim();
    text ? search(`“${text}”`, { text }) : showSamples();
  });
  find("index").addEventListener("change", showSamples);
  find("key").addEventListener("change", listIndexes);
  find("search-file").addEventListener("change", (event) => { lookLike(event.target.files); event.target.value = ""; });
  dropOn(find("search-drop"), lookLike);
  listIndexes();
}

beginSearch();
