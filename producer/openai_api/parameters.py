"""Parameters of OpenAI's requests: supported, without effect, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..gateway.schemas.text_fields import OPTION_NAMES
from .errors import OpenAIError

#: The model that every request names: the workers' own.
MODEL: Final = "blipline"
#: Parameters of a chat completion without an effect on its text.
IGNORED: Final = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)
#: Parameters that are refused, except with these values, which have no effect.
UNSUPPORTED: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "web_search_options": (),
}
#: Names of the maximum number of tokens, the newer one first.
MAX_TOKENS: Final = ("max_completion_tokens", "max_tokens")
#: Blipline's options by their own names: OpenAI's, and others as an extension.
OPTIONS: Final = OPTION_NAMES - {
    "max_new_tokens",
    "num_return_sequences",
    "output_scores",
    "stream",
}
#: Maximum tokens of a text; a higher limit of the request has no effect.
_MAX_NEW_TOKENS: Final = 1024


def check_names(parameters: Mapping[str, Any], known: frozenset[str]) -> None:
    """Check that all parameters are known and supported; raises OpenAIError."""
    for name, value in parameters.items():
        if name in UNSUPPORTED:
            if value not in UNSUPPORTED[name]:
                raise unsupported(name, f"'{name}' is not supported; omit it")
        elif name not in known:
            message = f"Unknown parameter: '{name:.100}'"
            raise OpenAIError(message, code="unknown_parameter", param=f"{name:.100}")


def check_model(parameters: Mapping[str, Any]) -> None:
    """Check the parameter `model`; raises OpenAIError."""
    model = required(parameters, "model")
    if model != MODEL:
        raise model_not_found(model)


def model_not_found(model: object) -> OpenAIError:
    """Return the error for an unknown model."""
    message = f"The model {model!r:.100} does not exist: the gateway serves '{MODEL}'"
    return OpenAIError(message, code="model_not_found", param="model", status=404)


def required(parameters: Mapping[str, Any], name: str) -> Any:
    """Return a parameter; raises OpenAIError if it is missing."""
    if name not in parameters:
        message = f"Missing required parameter: '{name}'"
        raise OpenAIError(message, code="missing_required_parameter", param=name)
    return parameters[name]


def boolean(parameters: Mapping[str, Any], name: str) -> bool:
    """Return a parameter that is false by default; raises OpenAIError."""
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise invalid_type(name, "a boolean", value)
    return value


def generation_options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the generation options of a request; raises OpenAIError."""
    options = {name: parameters[name] for name in OPTIONS if name in parameters}
    # Scores contain the numbers of tokens and the reasons of the ends.
    options["output_scores"] = True
    if "n" in parameters:
        options["num_return_sequences"] = _choices(parameters)
    for name in MAX_TOKENS:
        if name in parameters:
            limit = parameters[name]
            if type(limit) is not int or limit < 1:
                raise OpenAIError(f"'{name}' must be an integer of at least 1", param=name)
            options["max_new_tokens"] = min(limit, _MAX_NEW_TOKENS)
            break
    return options


def _choices(parameters: Mapping[str, Any]) -> Any:
    """Return the number of choices; raises OpenAIError if they would all be equal."""
    count = parameters["n"]
    searches = ("temperature", "do_sample", "num_beams")
    if count != 1 and not any(parameters.get(name) for name in searches):
        message = "'n' above 1 needs a 'temperature' above 0: without it, all choices are equal"
        raise OpenAIError(message, param="n")
    return count


def invalid_type(param: str, expected: str, value: object) -> OpenAIError:
    """Return the error for a value of another type."""
    message = f"Invalid type for '{param}': expected {expected}, not {type(value).__name__}"
    return OpenAIError(message, code="invalid_type", param=param)


def unsupported(param: str, message: str) -> OpenAIError:
    """Return the error for a value that OpenAI accepts, but not this API."""
    return OpenAIError(message, code="unsupported_value", param=param)
