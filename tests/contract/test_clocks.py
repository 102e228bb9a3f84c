"""Deadlines go by clocks that only count on: a wall clock that jumps must not expire or hold up a request."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}
ALLOWED = {
    "server/tritonclip_server/gateway/routes/models.py",  # `created`, which OpenAI's clients want
    "server/tritonclip_server/gateway/routes/vllm.py",  # likewise
    "server/tritonclip_server/gateway/access/keys.py",  # the day a key was made
    "server/tritonclip_server/gateway/logs.py",  # when something was logged
    "server/tritonclip_server/gateway/spans.py",  # when a request's answer began and ended
    "server/tritonclip_server/embedded/launcher.py",  # likewise
    "client/tritonclip/search/_lock.py",  # when a writer on another machine was last seen: no other clock is shared
    "client/tritonclip/search/_writer.py",  # when an image failed
    "client/tritonclip/protocol/statuses.py",  # how far away the date is that a server names; bounded by the deadline
}


def wall_clocks(source: str) -> list[str]:
    """The wall clocks that a module refers to, called or not."""
    names = (ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute))
    imported = (
        f"time.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
    )
    return [name for name in (*names, *imported) if ".".join(name.split(".")[-2:]) in WALL_CLOCKS]


def test_a_wall_clock_is_seen() -> None:
    assert wall_clocks("import time\ndeadline = time.time() + 5")
    assert wall_clocks("from time import time")
    assert wall_clocks("import datetime\nf(clock=datetime.datetime.now)")
    assert not wall_clocks("import time\ndeadline = time.monotonic() + loop.time()")


def test_only_dates_go_by_the_wall_clock() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("client/tritonclip", "server/tritonclip_server", "model_repository")
        for path in (ROOT / folder).rglob("*.py")
        if wall_clocks(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED
