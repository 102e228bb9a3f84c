// The playground: chosen images and a question become one request to this gateway, its answer becomes bars.
// Nothing of what the visitor types or chooses is ever put into the page as HTML: all text goes in by textContent.
"use strict";

const find = (id) => document.getElementById(id);
const images = []; // {file, name, shown}: `shown` is an object URL
let models = []; // that are served, each once
const template = "{}"; // labels here are whole phrases
const relativeTo = { softmax: "relative to the other labels", sigmoid: "of this label by itself" }; // what a percentage is
let activation = "softmax"; // of the model, once it is known

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Several values of a field, or one: a JSON array wherever a plain value could be taken for a list, or for one in JSON.
const plain = (value) => !/[,;|]|^\s*\[/.test(value);
const field = (name, values) => (values.length === 1 ? values.every(plain) : !values.some((value) => value.startsWith("[")))
  ? values.map((value) => [name, value])
  : [[name, JSON.stringify(values)]];

const mode = () => document.querySelector("input[name=mode]:checked").value;
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

// What is asked, as form fields: [name, value] pairs; the images go beside them. One model needs no name.
function question() {
  const { path, fields } = questionOf(mode());
  return { path, fields: models.length > 1 ? [...fields, ["model", find("served").value]] : fields };
}

function questionOf(mode) {
  const least = find("min-cosine").disabled ? "" : find("min-cosine").value.trim();
  const among = least ? [["min_cosine", least]] : [];
  if (mode === "labels") {
    return { path: "/v1/classify", fields: [...field("labels", lines(find("labels").value)), ["template", template], ...among] };
  }
  if (mode === "set") {
    return { path: "/v1/classify", fields: [["label_set", find("label-set").value], ["top_k", "5"], ...among] };
  }
  const sentence = find("sentence").value.trim();
  return { path: "/v1/similarity", fields: [["text", sentence.startsWith("[") ? JSON.stringify([sentence]) : sentence]] };
}

function problem() {
  if (!images.length) return "Choose at least one image.";
  if (mode() === "labels" && !lines(find("labels").value).length) return "Give at least one label.";
  if (mode() === "sentence" && !find("sentence").value.trim()) return "Type a sentence.";
  if (mode() === "set" && !find("label-set").value) return "This model has no label set.";
  return null;
}

function headers() {
  const key = find("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function call(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers() });
  const document = await response.json().catch(() => null);
  if (!response.ok) throw new Error(document?.error?.message ?? `HTTP ${response.status}`);
  return document;
}

async function ask(event) {
  event.preventDefault();
  const wrong = problem();
  if (wrong) return say(wrong, true);
  const { path, fields } = question();
  const form = new FormData();
  for (const image of images) form.append("image", image.file, image.name);
  for (const [name, value] of fields) form.append(name, value);
  form.append("partial", "true");
  busy(true);
  try {
    const answer = await call(path, { method: "POST", body: form });
    show(answer, path);
  } catch (error) {
    find("results").replaceChildren();
    say(error.message, true);
  } finally {
    busy(false);
  }
}

function show(answer, path) {
  const failed = new Map((answer.errors ?? []).map((error) => [error.index, error.message]));
  const rows = path === "/v1/similarity" ? ranking(answer, failed) : labelling(answer);
  const errors = [...failed].map(([index, reason]) => entry(images[index], make("p", { className: "wrong", textContent: reason })));
  find("results").replaceChildren(...rows, ...errors);
  const cut = answer.truncated?.length ?? 0;
  say([
    failed.size ? `${failed.size} of ${images.length} images could not be used.` : "",
    cut ? `${cut} ${cut === 1 ? "text is" : "texts are"} longer than the model reads: it did not see the end.` : "",
  ].filter(Boolean).join(" "));
}

function labelling(answer) {
  return answer.data.map(({ index, labels }) => {
    const list = make("ol", {}, ...labels.map(({ label, probability, cosine }) => probability === null
      ? bar(label, Math.max(0, cosine), "—", "no other label that it could be likelier than", cosine)
      : bar(label, probability, `${(100 * probability).toFixed(1)} %`, relativeTo[answer.activation], cosine)));
    return entry(images[index], labels.length ? list : make("p", { textContent: "None of these." }));
  });
}

function ranking(answer, failed) {
  const scored = answer.cosine.map(([cosine], index) => ({ index, cosine })).filter(({ index }) => !failed.has(index));
  scored.sort((one, other) => other.cosine - one.cosine);
  return scored.map(({ index, cosine }) => entry(images[index],
    make("ol", {}, bar(images[index].name, Math.max(0, cosine), cosine.toFixed(3), "cosine"))));
}

function entry(image, content) {
  return make("div", { className: "ranked" }, make("img", { src: image.shown, alt: image.name }), content);
}

function bar(label, value, shown, note, cosine = null) {
  const meter = make("meter", { min: 0, max: 1, value, textContent: shown });
  meter.setAttribute("aria-label", `${label}: ${shown}`);
  return make("li", {},
    make("div", { className: "row" },
      make("span", { className: "label", textContent: label }),
      ...(cosine === null ? [] : [make("span", { className: "cosine", textContent: `cosine ${cosine.toFixed(3)}` })]),
      make("span", { className: "score", textContent: shown, title: note })),
    meter);
}

function say(text, wrong = false) {
  find("message").textContent = text;
  find("message").className = wrong ? "wrong" : "";
}

function busy(is) {
  find("answer").setAttribute("aria-busy", String(is));
  find("run").disabled = is;
  if (is) say("Asking…");
}

function add(files) {
  for (const file of files) images.push({ file, name: file.name, shown: URL.createObjectURL(file) });
  listImages();
}

function listImages() {
  find("images").replaceChildren(...images.map((image, index) => {
    const remove = make("button", { type: "button", textContent: "×" });
    remove.setAttribute("aria-label", `Remove ${image.name}`);
    remove.addEventListener("click", () => {
      URL.revokeObjectURL(images.splice(index, 1)[0].shown);
      listImages();
      find("files").focus();
    });
    return make("li", {}, make("img", { src: image.shown, alt: image.name }), remove);
  }));
  writeCode();
}

// The request as commands. Single quotes for the shell, and JSON for Python, whose strings it shares.
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function writeCode() {
  const { path, fields } = question();
  const names = images.length ? images.map((image) => image.name) : ["cat.jpg"];
  const key = find("key").value.trim();
  find("curl").textContent = [
    `curl -s ${location.origin}${path}`,
    ...(key ? ['-H "Authorization: Bearer $KEY"'] : []),
    ...names.map((name) => `-F image=@${shell(name)}`),
    ...fields.map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`),
  ].join(" \\\n  ");
  const grouped = {};
  for (const [name, value] of fields) (grouped[name] ??= []).push(value);
  find("python").textContent = [
    "import httpx",
    "",
    `files = [("image", open(name, "rb")) for name in ${JSON.stringify(names)}]`,
    `data = ${JSON.stringify(grouped)}`,
    ...(key ? ['headers = {"Authorization": f"Bearer {KEY}"}'] : []),
    `answer = httpx.post("${location.origin}${path}", files=files, data=data, timeout=60${key ? ", headers=headers" : ""})`,
    "print(answer.json())",
  ].join("\n");
}

// Have a part of the page take files that are dropped on it.
function dropOn(part, take) {
  for (const name of ["dragover", "dragenter"]) part.addEventListener(name, (event) => { event.preventDefault(); part.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) part.addEventListener(name, () => part.classList.remove("over"));
  part.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
}

async function copy(button) {
  const text = find(button.dataset.of).textContent;
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(find(button.dataset.of));
    button.textContent = "Selected: copy it with the keyboard";
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}

async function listModels() {
  const chosen = find("served").value;
  try {
    models = (await call("/v1/models")).data.filter(({ id, root }) => id === root);
    find("served").replaceChildren(...models.map(({ id }) => make("option", { value: id, textContent: id, selected: id === chosen })));
    find("choose-model").hidden = models.length < 2;
    if (!models.length) throw new Error("none for this key");
    describeModel(models.find(({ id }) => id === find("served").value));
  } catch (error) {
    find("model").textContent = `No model: ${error.message}`;
  }
  writeCode();
}

function describeModel(model) {
  if (model.variant === null && model.dimensions === null) {
    find("model").textContent = `${model.id} has not answered yet.`;
  } else {
    const random = model.random_weights ? " RANDOM WEIGHTS: its answers mean nothing." : "";
    find("model").textContent = `${model.id}, ${model.resolution} px, ${model.dimensions} dimensions, ${model.precision}.${random}`;
    activation = model.activation;
  }
  const sets = Object.entries(model.label_sets);
  find("label-set").replaceChildren(...sets.map(([name, { labels, kind }]) => {
    const option = make("option", { value: name, textContent: `${name} (${labels}${kind === "trained" ? ", trained" : ""})` });
    option.dataset.kind = kind;
    return option;
  }));
  find("label-set").hidden = !sets.length;
  find("no-sets").hidden = sets.length > 0;
  showLimit();
}

function showMode() {
  for (const part of document.querySelectorAll(".mode")) part.hidden = !part.dataset.mode.split(" ").includes(mode());
  showLimit();
  writeCode();
}

// What limits may be set, and what a percentage says. Labels of a set that was trained have no cosine that could be the
// least one, and are compared whatever the model does.
function showLimit() {
  const trained = mode() === "set" && find("label-set").selectedOptions[0]?.dataset.kind === "trained";
  find("min-cosine").disabled = trained;
  find("cosine").hidden = trained || !find("cosine").dataset.mode.split(" ").includes(mode());
  for (const note of document.querySelectorAll(".note[data-activation]")) note.hidden = note.dataset.activation !== activation;
}

function begin() {
  find("key").value = sessionStorage.getItem("key") ?? "";
  find("key").addEventListener("change", () => {
    sessionStorage.setItem("key", find("key").value.trim());
    listModels();
  });
  find("ask").addEventListener("submit", ask);
  find("ask").addEventListener("input", writeCode);
  find("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
  find("label-set").addEventListener("change", showMode);
  for (const radio of document.querySelectorAll("input[name=mode]")) radio.addEventListener("change", showMode);
  for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
  dropOn(find("drop"), add);
  find("served").addEventListener("change", listModels);
  showMode();
  listModels();
}

begin();
