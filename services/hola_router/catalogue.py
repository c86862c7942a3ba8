"""The model families a router accepts requests for."""

from __future__ import annotations

from hola.engines import SCRIPTED_PREFIX
from hola.errors import InvalidRequest
from hola.models.family import Family
from hola.models.prompt import render_chat
from hola.models.store import ModelStore
from hola.types import ChatMessage, ModelInfo


class Catalogue:
    """The store's families and, where it is the default, a scripted one without any file."""

    def __init__(self, store: ModelStore, default: str) -> None:
        """Raises UnknownModel when `default` is neither."""
        self._store = store
        self._default = default
        if not self._is_scripted(default):
            store.get(default)

    @property
    def default(self) -> str:
        """The family used when a request names none."""
        return self._default

    def check(self, model: str) -> str:
        """The name of the family to use for `model` ("" is the default).

        Raises UnknownModel naming the known ones, and what a broken family raises.
        """
        if not model or model == self._default:
            return self._default
        return self._store.get(model).name

    def family(self, model: str) -> Family:
        """The family's files. Raises as `check`, and InvalidRequest for a scripted one."""
        if self._is_scripted(model):
            raise InvalidRequest(
                f"{model} has no files, so it cannot read passages", field="retrieval"
            )
        return self._store.get(model)

    def render(self, model: str, messages: tuple[ChatMessage, ...]) -> str:
        """The prompt of a conversation. Raises as `render_chat`, InvalidRequest if scripted."""
        if self._is_scripted(model):
            raise InvalidRequest(f"{model} has no chat template: send a prompt", field="messages")
        return render_chat(self._store.get(model), messages)

    def infos(self) -> tuple[ModelInfo, ...]:
        """Every usable family, by name."""
        found = [
            ModelInfo(
                name=family.name,
                tiers=tuple(tier.name for tier in family.tiers),
                context_length=family.context_length,
            )
            for family in self._store.list()
        ]
        if self._is_scripted(self._default):
            found.append(ModelInfo(name=self._default, tiers=(), context_length=0))
        return tuple(found)

    @staticmethod
    def _is_scripted(model: str) -> bool:
        return model.startswith(SCRIPTED_PREFIX)
