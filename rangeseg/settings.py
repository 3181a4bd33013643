"""The base of every settings class: strict, frozen, checked by pydantic."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings; an unknown key or a wrong type is an error.

    pydantic's lax mode turns YAML's ``1e-3`` (which arrives as a string) into a float.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
