"""Parameters of this API: generation options, and those without support."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from ..gateway.schemas.text_fields import OPTION_NAMES
from .errors import invalid

#: Parameters that need support, and their values without an effect.
UNSUPPORTED: Final[Mapping[str, tuple[Any, ...]]] = {
    "dimensions": (),
    "encoding_format": ("float",),
    "normalize": (True,),
    "penalty_alpha": (0,),
    "prompt_name": (),
    "truncate": (False,),
    "truncation_direction": ("right", "Right"),
    "use_cache": (True,),
}
#: Object with further generation options.
_GENERATION: Final = "generation_parameters"


def check_parameters(parameters: Mapping[str, Any], known: AbstractSet[str]) -> None:
    """Check that all parameters are known and supported; raises Problem."""
    for name, value in parameters.items():
        if name in known or value in UNSUPPORTED.get(name, ()):
            continue
        if name in UNSUPPORTED:
            raise invalid(name, "is not supported; omit it")
        raise invalid(name, "is not a parameter of this task")


def generation_fields(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a task that generates a text; raises Problem."""
    nested = parameters.get(_GENERATION, {})
    if not isinstance(nested, dict):
        raise invalid(_GENERATION, "must be an object")
    given = {name: value for name, value in parameters.items() if name != _GENERATION}
    given |= {name: value for name, value in nested.items() if value is not None}
    check_parameters(given, {*OPTION_NAMES, "deadline_s"})
    fields: dict[str, Any] = {
        "options": {name: value for name, value in given.items() if name in OPTION_NAMES}
    }
    if "deadline_s" in given:
        fields["deadline_s"] = given["deadline_s"]
    return fields
