"""The package `blipline` under the name by which the worker imports it.

The wheel has this package beside `worker` and `config` in a folder that only the processes of a
worker have on their path, so that none of the three names meets that of another project.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2])]
