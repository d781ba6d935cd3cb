"""`make image`: build the image, run the whole system from it, and check the demo batch and stops.

Needs podman, and debootstrap and root where no registry can be reached. TORCH_INDEX (the index of
torch), STORES, TRACING and BAKE_MODEL in the environment are those of Compose. Exit codes: 0;
1 a step failed, see the message.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from deploy.image.build import IMAGE, base_images, build, size_mb
from deploy.image.checks import demo_batch, flower_is_closed, gateway_answers, stops_under_load
from deploy.image.podman import ImageError, use_limits_of_this_machine
from deploy.image.system import running_system


def main() -> int:
    """Build and check; return the exit code."""
    options = _options()
    try:
        if shutil.which("podman") is None:
            raise ImageError("podman is not installed: install it (Debian: podman, runc)")
        with tempfile.TemporaryDirectory(prefix="blipline-podman-") as directory:
            use_limits_of_this_machine(Path(directory))
            base, redis_image = base_images(options.base, options.mirror)
            build(base)
            print(
                f"{IMAGE}: {size_mb(IMAGE):,.0f} MB unpacked, {size_mb(base):,.0f} of them {base}"
            )
            if not options.build_only:
                _check(redis_image)
    except ImageError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


def _check(redis_image: str) -> None:
    with running_system(redis_image, workers=2) as system:
        tour = demo_batch(system)
        print(f"demo batch: {tour.items} items in {tour.seconds:.1f} s, none failed")
        print(f"gateway: {gateway_answers(system)}")
        flower_is_closed(system)
        print("Flower: refused without credentials, open with them")
        stops = stops_under_load(system)
        shown = ", ".join(f"{service} {seconds:.1f} s" for service, seconds in stops.items())
        print(f"SIGTERM under load, exit code 0, every item answered once: {shown}")


def _options() -> Namespace:
    parser = ArgumentParser(
        prog="python -m deploy.image",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--build-only", action="store_true", help="build, and run nothing")
    parser.add_argument("--base", help="base image; default: python:3.11-slim, or a Debian base")
    parser.add_argument(
        "--mirror", default="http://deb.debian.org/debian", help="of Debian, for a base"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
