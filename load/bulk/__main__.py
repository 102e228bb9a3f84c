"""`python -m load.bulk`: workers and stub servers in growing numbers, as many of both and many before few.

Prints a table and writes build/bulk-scaling.json.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from load.bulk import rate
from load.bulk.scaling import Setting, measure, table
from load.core.machine import describe_machine, write_json
from load.core.turns import say

RESULTS = Path("build/bulk-scaling.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulation; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["rate"]:
        return rate.main(arguments[1:])
    command = argparse.ArgumentParser(prog="python -m load.bulk", description=__doc__, epilog="Other: rate.")
    add = command.add_argument
    add("--numbers", type=int, nargs="+", default=(1, 2, 4, 8, 16), metavar="N", help="(default: %(default)s)")
    add("--crowds", type=int, nargs="+", default=(4, 16), metavar="N", help="workers of one server (%(default)s)")
    add("--images-per-s", type=float, default=50.0, metavar="R", help="of a server (default: %(default)s)")
    add("--images", type=int, default=500, metavar="N", help="of a shard, three a worker (default: %(default)s)")
    options = command.parse_args(arguments)
    pairs = [*((number, number) for number in options.numbers), *((number, 1) for number in options.crowds)]
    found = []
    for workers, servers in pairs:
        say(f"{workers} workers, {servers} servers")
        shards = 3 if servers == workers else 1
        setting = Setting(workers, servers, options.images_per_s, shards, options.images)
        found.append(measure(setting))
        print(table(found[-1:]).splitlines()[-1], flush=True)
    print(table(found))
    write_json(
        {"machine": describe_machine(), "images_per_s_of_a_server": options.images_per_s, "runs": found}, RESULTS
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
