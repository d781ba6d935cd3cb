"""`python -m worker download [MODEL]`: fill the hub's cache, and print the model's directory.

Asks the hub for the present commit of a branch or tag; workers that start later use it. With the
name of an adapter, it also downloads the adapter's base, and prints first that directory. Without
MODEL, it downloads the models of the settings. HF_TOKEN is the token for gated and private models,
MODELSCOPE_API_TOKEN that of ModelScope.
Exit codes: 0; 1 if the hub cannot be reached now; 2 if the model or a setting cannot be used.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Final

from config.settings import WorkerSettings
from producer.errors import InvalidInput
from producer.observability import logs
from worker.engine.errors import HubUnavailable, LoadError
from worker.hub.reference import parse_model
from worker.hub.resolver import refresh, refresh_files
from worker.processes import lifeline

EXIT_UNAVAILABLE: Final = 1
EXIT_UNUSABLE: Final = 2
EPILOG: Final = """examples:
  python -m worker download Salesforce/blip2-opt-2.7b
  python -m worker download Salesforce/blip-itm-base-coco --revision refs/pr/4
  python -m worker download modelscope:owner/name
  HF_HOME=/models python -m worker download"""


def main(arguments: list[str]) -> int:
    """Download one model, or those of the settings; return the exit code."""
    options = _parser().parse_args(arguments)
    # A killed supervisor must not leave a download behind.
    lifeline.on_supervisor_death(lambda: os._exit(EXIT_UNAVAILABLE))
    try:
        settings = WorkerSettings.load()
        logs.configure(settings, "download")
        if options.without_base:
            parsed = parse_model(options.model or settings.model, options.revision)
            snapshots = [refresh_files(parsed, offline=settings.offline)]
        else:
            named = [(options.model, options.revision, "", ())] if options.model else None
            models = named or settings.checkpoints()
            snapshots = [refresh(*model, offline=settings.offline) for model in models]
        for snapshot in snapshots:
            print(snapshot.directory, flush=True)
            merged = () if snapshot.adapter is None else (snapshot.adapter,)
            for adapter in (*merged, *(each for _, each in snapshot.adapters)):
                print(adapter.directory, flush=True)
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
    parser.add_argument(
        "--without-base", action="store_true", help="download only the adapter, not its base"
    )
    return parser


def _fail(message: str, code: int) -> int:
    logs.report_failure("worker download", message)
    return code
