"""Cutoffs of the distribution that few rows use: transformers' own, for one row at a time."""

from __future__ import annotations

from typing import Any

import torch

from worker.engine.request import GenerationOptions


def cutoffs(options: GenerationOptions, device: torch.device) -> Any:
    """Return the processors of min-p, typical, epsilon and eta sampling, in `generate`'s order.

    The list is empty, and false, if the options have none of them.
    """
    from transformers import (
        EpsilonLogitsWarper,
        EtaLogitsWarper,
        LogitsProcessorList,
        MinPLogitsWarper,
        TypicalLogitsWarper,
    )

    warpers = LogitsProcessorList()
    if options.min_p > 0:
        warpers.append(MinPLogitsWarper(options.min_p))
    if options.typical_p < 1:
        warpers.append(TypicalLogitsWarper(options.typical_p))
    if options.epsilon_cutoff > 0:
        warpers.append(EpsilonLogitsWarper(options.epsilon_cutoff))
    if options.eta_cutoff > 0:
        warpers.append(EtaLogitsWarper(options.eta_cutoff, device=str(device)))
    return warpers
