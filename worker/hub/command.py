"""`python -m worker download [MODEL]`: fill the hub's cache, and print the model's directory.

Asks the hub for the present commit of a branch or tag; workers that start later use it. Without
MODEL, it downloads the models of the settings. HF_TOKEN is the token for gated and private models.
Exit codes: 0; 1 if the hub cannot be reached now; 2 if the model or a setting cannot be used.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Final

from config.settings import WorkerSettings
from producer.errors import InvalidInput
from worker import lifeline
from worker.engine.errors import HubUnavailable, LoadError
from worker.hub.resolver import refresh

EXIT_UNAVAILABLE: Final = 1
EXIT_UNUSABLE: Final = 2
EPILOG: Final = """examples:
  python -m worker download Salesforce/blip2-opt-2.7b
  python -m worker download Salesforce/blip-itm-base-coco --revision refs/pr/4
  HF_HOME=/models python -m worker download"""


def main(arguments: list[str]) -> int:
    """Download one model, or those of the settings; return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s download %(levelname)s %(message)s")
    # A killed supervisor must not leave a download behind.
    lifeline.on_supervisor_death(lambda: os._exit(EXIT_UNAVAILABLE))
    try:
        settings = WorkerSettings.load()
        models = [(options.model, options.revision)] if options.model else settings.checkpoints()
        for model, revision in models:
            print(refresh(model, revision, offline=settings.offline).directory, flush=True)
    except HubUnavailable as error:
        return _fail(str(error), EXIT_UNAVAILABLE)
    except (InvalidInput, LoadError) as error:
        return _fail(str(error), EXIT_UNUSABLE)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m worker download",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", help="hub name, or name@revision [BLIPLINE_MODEL, BLIPLINE_MATCH_MODEL]"
    )
    parser.add_argument("--revision", default="", help="branch, tag or commit; default main")
    return parser


def _fail(message: str, code: int) -> int:
    print(f"worker download: {message}", file=sys.stderr)
    return code
