"""A real Prometheus that scrapes nodes of a test each second, and what fires in it."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from trishula_drill.proxy import free_port

__all__ = ["PROMETHEUS", "Prometheus"]

PROMETHEUS = shutil.which("prometheus") or "prometheus"
GENEROUS_S = 60.0


class Prometheus:
    """The process.

    Args:
        folder: for its configuration and its data.
        rules: the content of its file of rules.
        targets: by instance, where its metrics are: ``host:port``.
        job: under which they are scraped.
    """

    def __init__(
        self, folder: Path, rules: Mapping[str, Any], targets: Mapping[str, str], *, job: str = "trishula"
    ) -> None:
        self._folder = folder
        self._port = free_port()
        (folder / "rules.yml").write_text(yaml.safe_dump(rules))
        static = [{"targets": [at], "labels": {"instance": name}} for name, at in targets.items()]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": job, "static_configs": static}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Prometheus:
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(GENEROUS_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()

    def firing(self) -> set[str]:
        """The names of the alerts that fire now; none before it answers."""
        return {one["alertname"] for one in self.ask('ALERTS{alertstate="firing"}')}

    def ask(self, expression: str) -> list[dict[str, str]]:
        """The labels of what an expression finds."""
        assert self._process.poll() is None, (self._folder / "log").read_text()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=GENEROUS_S)
        try:
            connection.request("GET", f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
            answer = connection.getresponse()
            body = answer.read()
        except ConnectionError:
            return []
        finally:
            connection.close()
        # It answers 503 while it reads its data.
        return [one["metric"] for one in json.loads(body)["data"]["result"]] if answer.status == 200 else []

    def until_firing(self, *names: str) -> None:
        """Wait until alerts fire, all at once or one after the other."""
        left, deadline = set(names), time.monotonic() + GENEROUS_S
        while left := left - self.firing():
            assert time.monotonic() < deadline, f"{sorted(left)} don't fire"
            time.sleep(0.2)

    def until_quiet(self, *names: str) -> None:
        """Wait until none of them fires."""
        deadline = time.monotonic() + GENEROUS_S
        while found := self.firing() & set(names):
            assert time.monotonic() < deadline, f"{sorted(found)} still fire"
            time.sleep(0.2)
