"""Profile `load`: Locust's master and two workers in containers, against the stack they belong to."""

import json

from tests.compose.conftest import Stack


def test_a_scenario_runs_on_two_workers(stack: Stack, key: str) -> None:
    stack.compose("--profile", "load", "up", "-d", "--no-deps", "--scale", "load-worker=2", "load-worker")
    try:
        done = stack.run(
            "--profile", "load", "run", "--rm", "-T", "--use-aliases", "--no-deps", "-e", f"TRITONCLIP_API_KEY={key}",
            "load-master", "--master", "--headless", "--only-summary", "--expect-workers=2", "--report=/dev/stdout",
        )  # fmt: skip
    finally:
        stack.compose("--profile", "load", "rm", "--stop", "--force", "load-worker")
    # Whether its limits hold is a matter of speed, and no test's. That it ran, and that no answer was wrong, is. In its
    # 20 seconds it gets some 250 answers, or a small part of them from a machine that stands still now and then.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index('{\n  "scenario"'))
    assert report["outcomes"]["answered"] > 20
    assert report["outcomes"]["wrong"] == report["outcomes"]["hung"] == 0
    assert {entry["way"] for entry in report["requests"]} == {"grpc", "http", "gateway"}
