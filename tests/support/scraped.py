"""A scrape of a node's metrics, read as Prometheus reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Scraped"]


class Scraped:
    """The samples of one scrape.

    Args:
        text: as the node wrote it.

    Attributes:
        values: by name and the values of the labels.
        names: the series that there are.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.values: dict[tuple[str, ...], float] = {}
        self.names: set[str] = set()
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                self.values[(sample.name, *sample.labels.values())] = sample.value
                self.names.add(sample.name)

    def __getitem__(self, key: str | tuple[str, ...]) -> float:
        return self.values[(key,) if isinstance(key, str) else key]

    def __contains__(self, key: tuple[str, ...]) -> bool:
        return key in self.values

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """All samples of one name, by the values of their labels."""
        return {key[1:]: value for key, value in self.values.items() if key[0] == name}
