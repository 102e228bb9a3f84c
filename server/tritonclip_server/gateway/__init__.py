"""The gateway: an OpenAI-shaped HTTP API and a page to play with, over a tritonclip engine.

How a request flows:

    http.connection (heads in bounds, in time) ─> ASGI
         ─> ErrorMiddleware (request id, trace, metrics; any error becomes a response and a line of the log)
         ─> AccessMiddleware (key, rate, body under the limits, deadline, cancellation when the caller hangs up)
         ─> routes ─> parsing.body (JSON or multipart, against request models) ─> content.items (texts, images)
         ─> inference.models (the model that is asked) ─> its inference.service (admission, text cache)
         ─> Engine, which is tritonclip.AsyncClient in production
         ─> responses (orjson, base64)

Where things are:

| folder | what is in it |
|---|---|
| `http/` | the socket's side: server, connections, their limits, middleware, a request's context, trace and log lines |
| `access/` | who may ask, and how often: open paths, foreign pages, API keys, rate limits |
| `admission/` | how much is worked on at once: bytes of requests, places in the engine |
| `parsing/` | bodies to request models: compression, JSON, forms, validation |
| `content/` | what requests hold: texts, images, labels, token ids; what bytes and strings are |
| `fetching/` | images from URLs, with no way into this network (SSRF) |
| `inference/` | the models, and for each items to vectors, scores and labels, over an engine |
| `search/` | the indexes that are served, and what a request may ask of them |
| `responses/` | JSON responses, their models, vector encodings, formats of errors |
| `routes/` | an endpoint or an API a module |

Beside them: `app` puts one together, `cli` and `keys_cli` are the commands, `model_options` reads the names of models
among their options, `settings` says what can be set, `errors` has the one table of codes, `metrics`, `logs` and `spans`
are what operators see. Every refusal is an ``ApiError``. Only `cli` knows Triton.
"""
