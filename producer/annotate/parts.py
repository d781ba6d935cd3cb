"""The parts of a run."""

from __future__ import annotations

from dataclasses import dataclass

from .client_on_demand import ClientOnDemand
from .flight import Flight
from .outputs.output import Output
from .storage.journal import Journal
from .submitter import Submitter
from .texts.answers import AnswerResolver
from .texts.recipe import Recipe
from .texts.text_rules import TextRules


@dataclass(frozen=True)
class RunParts:
    """The parts of a run."""

    clients: ClientOnDemand
    journal: Journal
    output: Output
    recipe: Recipe
    rules: TextRules
    resolver: AnswerResolver
    flight: Flight
    submitter: Submitter
    #: True if the run sees all images of the sources.
    is_whole: bool = True
    #: Remove the rows of images that the sources do not have.
    prune: bool = False
