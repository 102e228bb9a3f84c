"""The gateway: an OpenAI-shaped HTTP API and a page to play with, over a tritonclip engine.

How a request flows:

    connection (heads in bounds, in time) ─> ASGI
         ─> Envelope (request id, fingerprint, metrics; any error becomes an answer and a line of the log)
         ─> Doorkeeper (key, rate, body under the limits, deadline, cancellation when the caller hangs up)
         ─> routes/ ─> bodies (JSON or multipart, against schemas) ─> intake (texts, images as bytes)
         ─> Service (admission, text cache) ─> Engine, which is tritonclip.AsyncClient in production
         ─> answers (orjson, base64)

Every refusal is an ``ApiError`` with a code of one table (``errors``). Nothing but ``cli`` knows of Triton.
"""
