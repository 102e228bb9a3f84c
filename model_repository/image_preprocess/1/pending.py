"""How many requests wait in the queue of a model, as Triton's metrics say."""

import http.client
import os
import re
from urllib.parse import urlsplit

VARIABLE = "TRITONCLIP_METRICS"  # the URL of Triton's metrics; set by the embedded server
TIMEOUT_SECONDS = 1.0


def pending_requests(model: str) -> int:
    """Requests that Triton has queued for a model and that none of its instances computes; 0 where it does not say."""
    url = urlsplit(os.environ.get(VARIABLE, ""))
    if url.hostname is None:
        return 0
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", url.path)
        metrics = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    found = re.search(
        rf'^nv_inference_pending_request_count{{model="{re.escape(model)}",.*}} (\d+)', metrics, re.MULTILINE
    )
    return int(found[1]) if found else 0
