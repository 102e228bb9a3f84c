"""Every default of the client, in one place. Times are seconds, sizes are bytes."""

from typing import Final

URL: Final = "grpc://localhost:8001"
TIMEOUT: Final = 60.0  # for one request, its retries included
CONCURRENCY: Final = 8  # requests in flight for one call of the library
# Items in one request. The images of a request are decoded one after the other, and requests beside each other, so a
# list of them is spread over several. Tokenising is next to nothing: texts go as many at a time as the server takes.
IMAGES_PER_REQUEST: Final = 16
TEXTS_PER_REQUEST: Final = 64
MAX_BATCH_SIZE: Final = 64  # what the server takes, where its manifest does not say
TEMPLATE: Final = "a photo of a {}"
TEST_SHARE: Final = 0.2  # of the images that a head is trained from, held back to test it on
LABELS_KEPT: Final = 20_000  # label features in memory, of all lists of labels together; 51 MB at a width of 640

# Triton's HTTP front end refuses bodies over 64 MiB as it comes; a request stays well under that.
MAX_REQUEST_BYTES: Final = 32 * 1024 * 1024

# An answer over this is none of a model's: 64 images with 100,000 classes each come to 60 MiB.
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024

CONNECT_TIMEOUT: Final = 10.0
# A peer that acknowledges nothing for so long is gone (TCP_USER_TIMEOUT): the call goes to another connection in time.
UNACKNOWLEDGED_SECONDS: Final = 20
# Servers take a ping every five minutes from a connection on which they themselves say nothing, and end it at the
# fourth that comes sooner; Triton's and gRPC's own default.
PING_SECONDS: Final = 330
BACKOFF_FIRST: Final = 0.1  # the longest pause before the first retry; doubles with each one
BACKOFF_LONGEST: Final = 5.0
# A process that dies is answered for with INTERNAL until it is noticed; another server of the same name may be well.
SERVER_ERRORS_RETRIED: Final = 2

# What the command fetches when an image is given as a URL.
FETCH_TIMEOUT: Final = 30.0
FETCH_MAX_BYTES: Final = 32 * 1024 * 1024

# How long a run over a data set repeats a request that servers refuse, or that none takes: one that restarts is back.
PATIENCE: Final = 600.0

PORTS: Final = {"grpc": 8001, "grpcs": 443, "http": 80, "https": 443}
