"""Files of the wheel alone: `pyproject.toml` names them."""
