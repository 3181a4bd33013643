"""The base of every settings class: strict, frozen, checked by pydantic."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    """A group of settings; an unknown key or a wrong type is an error.

    pydantic's lax mode turns YAML's ``1e-3`` (which arrives as a string) into a float.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_in_yaml(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's ``true`` is no number, and a group whose lines are all comments is empty."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if value is None and isinstance(kind, type) and issubclass(kind, Settings):
            return {}
        kinds = (kind, *get_args(kind))
        if bool not in kinds and (int in kinds or float in kinds):
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(v, bool) for v in values):
                raise ValueError("a number is neither true nor false")
        return value
