"""The definitions of a config by name, while they are being checked.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from histotransfer.networks import groups
from histotransfer.problems import Problems, closest, listing


class Catalogue:
    """The config's definitions by name.

    Parameters
    ----------
    config : dict
        With its defaults.
    problems : Problems
        What is wrong is added here.
    broken : set of tuple of str
        Sections and definitions (paths of one or two keys) that the schema refuses.
    """

    def __init__(self, config: dict[str, Any], problems: Problems, broken: set[tuple[str, ...]]) -> None:
        self._config = config
        self.broken = broken
        self.problems = problems

    def known(self, section: str) -> bool:
        """Return whether a section is a table of definitions, so that a name that is not in it is a problem."""
        return isinstance(self._config.get(section), dict) and (section,) not in self.broken

    def names(self, section: str) -> list[str]:
        """Return the names that a section defines."""
        return list(self._config[section]) if isinstance(self._config.get(section), dict) else []

    def sound(self, section: str, name: str) -> dict[str, Any] | None:
        """Return a definition, or None if it does not exist or the schema refuses it."""
        if name not in self.names(section) or (section, name) in self.broken:
            return None
        definition = self._config[section][name]
        return definition if isinstance(definition, dict) else None

    def each(self, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield name and definition of those of a section that the schema accepts."""
        for name in self.names(section):
            definition = self.sound(section, name)
            if definition is not None:
                yield name, definition

    def setting(self, *keys: str) -> Any:
        """Return the value of a key by its path, or None."""
        value: Any = self._config
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def chosen(self, key: str) -> list[str]:
        """Return the names in the list ``study.KEY``; entries that are not text are left out."""
        names = self.setting("study", key)
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def refer(self, where: str, section: str, name: str, *, also: Sequence[str] = ()) -> bool:
        """Return whether `name` is defined in `section` or in `also`; add a problem if not."""
        names = [*self.names(section), *(name for name in also if name not in self.names(section))]
        if name in names:
            return True
        if self.known(section):
            self.problems.add(where, f"must be one of `{section}`: {listing(names)}{closest(name, names)}", repr(name))
        return False

    def network(self, name: str) -> dict[str, Any] | None:
        """Return a network, or None if it has problems. A trained network has the keys of its start, and its own.

        Its own: ``layer``, ``layers``, ``start``, ``recipe``, and ``reaches``, the cut point that its head is put on.
        """
        network = self.sound("networks", name)
        if network is None or network["recipe"] is None:
            return network
        start = self.sound("networks", network["start"])
        if start is None or start["recipe"] is not None or self.sound("recipes", network["recipe"]) is None:
            return None
        own = {key: network[key] for key in ("layers", "start", "recipe")}
        own["layer"] = start["layer"] if network["layer"] is None else network["layer"]
        return {**start, **own, "reaches": groups.reached(start)}

    def all_networks(self) -> dict[str, dict[str, Any]]:
        """Return the networks without problems, by name."""
        networks = {name: self.network(name) for name in self.names("networks")}
        return {name: network for name, network in networks.items() if network is not None}

    def feature_set(self, name: str) -> dict[str, Any] | None:
        """Return a feature set, or None if it has problems. A network is also a feature set under its own name."""
        if name in self.names("feature_sets"):
            return self.sound("feature_sets", name)
        return {"network": name} if name in self.names("networks") else None
