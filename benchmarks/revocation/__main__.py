"""How long an answer goes on after the right to it was taken away, in many trials of every cause.

    python -m benchmarks.revocation [--trials 500] [--at-once 4]

Starts the whole product in a temporary folder. Each trial founds a tenant, lets an answer begin in it, at a random
moment takes the right away (a grant, the membership, the role, the key, the tenant's being active), and reads on to
the end. Goal: the last token comes at most a second later, in every trial.
"""

import argparse
import asyncio
import os
import statistics
import sys

from benchmarks import product


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--trials", type=int, default=500)
    arguments.add_argument("--at-once", type=int, default=4)
    options = arguments.parse_args()
    with product.folder() as state, product.running(state) as url:
        os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
        import django

        django.setup()
        late = asyncio.run(_measure(url, options.trials, options.at_once))
    sys.exit(late)


async def _measure(url: str, count: int, at_once: int) -> bool:
    """Prints a row for each cause; whether any trial was late."""
    from benchmarks.revocation.trials import CAUSES, LIMIT_S, Trial

    places = asyncio.Semaphore(at_once)

    async def run(number: int) -> float:
        async with places:
            return await Trial(url, CAUSES[number % len(CAUSES)], name=f"trial-{number}").run()

    after = await asyncio.gather(*(run(number) for number in range(count)))
    print(f"{os.cpu_count()} cores, {count} trials, {at_once} at once; seconds to the last token\n")
    print(f"{'what was taken away':<32}{'trials':>8}{'p50':>8}{'p99':>8}{'most':>8}")
    for index, cause in enumerate(CAUSES):
        times = after[index :: len(CAUSES)]
        p99 = statistics.quantiles(times, n=100)[98] if len(times) > 1 else times[0]
        print(f"{cause.name:<32}{len(times):>8}{statistics.median(times):>8.2f}{p99:>8.2f}{max(times):>8.2f}")
    return max(after) > LIMIT_S


if __name__ == "__main__":
    main()
