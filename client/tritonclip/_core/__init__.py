"""The client's engine: operations are generators, a driver performs what they ask for.

    effects    what an operation may ask for: Send a call, Sleep, Wait, Work, Take items, FanOut over chunks
    drivers    perform it: one blocking, one for asyncio
    session    limits, retries, and what is known of the server
    chunks     any number of items through one model, failing ones isolated
    stream     the items' source, and how rows find their places
    modality   what differs between images and texts; ``png`` writes pixels

How to read a traceback. It begins in a method of the client and ends where the error arose, and between them the
control goes to and fro, so names repeat. Frames in ``drivers`` are machinery; skip them. The others tell the story::

    _client.py  embed_images             the method that was called
    drivers.py  run                      the generator is resumed, or the error is thrown into it
    embed.py    embed                    a chain of `yield from`, outermost first ...
    chunks.py   fan_out                  ... whose last frame is the `yield` of the effect that failed
    drivers.py  run, _perform, _fan_out  the effect is performed: each chunk is an operation of its own
    drivers.py  run                      (with several chunks in a thread or task: `future.result()` stands before it)
    chunks.py   infer_chunk              the chunk
    session.py  infer, call, call_once   the call, with its retries; the `yield Send` that failed
    drivers.py  run, _perform            the transport's future is waited for
    protocol/   ...                      what the transport or a codec raised

The last line of the traceback has the server's words. An error that was mapped from a library's has that as its cause
(``__cause__``), which Python prints first.
"""
