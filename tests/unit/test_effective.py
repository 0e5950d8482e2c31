"""The configuration that a node really runs with: a pure function of the file and the command line."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from twisted.web.resource import Resource

from trishula_router.settings.check import check_config, check_with_crossbar, read_config_file
from trishula_router.settings.crossbar_config import (
    ENDPOINTS,
    ListenEndpoint,
    effective_config,
    listen_endpoint_of,
    listener_of,
    options_of,
    render_config,
)

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
BASE = Path("/etc/trishula")


def differences(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Key path → (before, after), of all that is not the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        parts = [(f"{path}.{key}", before.get(key), after.get(key)) for key in keys]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        parts = [(f"{path}[{index}]", *pair) for index, pair in enumerate(zip(before, after, strict=True))]
    else:
        return {} if before == after else {path: (before, after)}
    return {key: value for part in parts for key, value in differences(part[1], part[2], part[0]).items()}


def test_the_state_the_address_and_the_endpoints_are_put_in_and_the_argument_stays_as_it_is() -> None:
    config = read_config_file(SHIPPED)
    before = copy.deepcopy(config)
    effective = effective_config(
        config, base=BASE, state_dir=Path("/var/lib/trishula"), address=ListenEndpoint("10.0.0.5", 12345)
    )
    assert config == before
    assert differences(config, effective) == {
        ".workers[0].components[0].extra.state": ("trishula-state", "/var/lib/trishula"),
        ".workers[0].transports[0].endpoint.interface": ("127.0.0.1", "10.0.0.5"),
        ".workers[0].transports[0].endpoint.port": (8765, 12345),
    } | {
        f".workers[0].transports[0].paths.{name}": (None, {"type": "resource", "classname": classname})
        for name, classname in ENDPOINTS.items()
    } | {
        # No shipped file names keys, which the release before refuses; a node takes them all the same.
        ".workers[0].transports[0].paths.ws.auth.cryptosign": (
            None,
            {
                "type": "dynamic",
                "authenticator": "trishula.internal.authenticate",
                "authenticator-realm": "trishula",
                "authenticator-role": "trusted",
            },
        )
    }


def test_an_endpoint_that_the_file_names_stays_as_it_is_and_is_good() -> None:
    config = read_config_file(SHIPPED)
    own = {"type": "static", "package": "trishula_router", "resource": "web"}
    listener_of(config)["paths"]["health"] = own
    listener_of(config)["paths"]["ready"] = {"type": "resource", "classname": ENDPOINTS["ready"]}
    assert (check_config(config, base=BASE), check_with_crossbar(config)) == ((), ())
    paths = listener_of(
        effective_config(config, base=BASE, state_dir=Path("state"), address=ListenEndpoint("127.0.0.1", 1234))
    )["paths"]
    assert paths["health"] == own


def test_crossbar_can_make_every_endpoint() -> None:
    for name in ENDPOINTS.values():
        module, _, classname = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), classname)({}), Resource)


def test_the_router_worker_runs_with_the_given_program_unless_the_file_names_one() -> None:
    config = read_config_file(SHIPPED)
    config["workers"].append({"type": "container", "options": {}})
    config["workers"].append({"type": "router", "options": {"python": "/opt/python"}})
    effective = effective_config(
        config,
        base=BASE,
        state_dir=Path("/s"),
        address=ListenEndpoint("::1", 1),
        python=Path("/s/crossbar/worker-python"),
    )
    assert [worker["options"].get("python") for worker in effective["workers"]] == [
        "/s/crossbar/worker-python",
        None,
        "/opt/python",
    ]


def test_relative_paths_start_at_the_original_file() -> None:
    config = read_config_file(SHIPPED)
    worker = config["workers"][0]
    worker["options"]["pythonpath"] = ["plugins", "/opt/plugins"]
    transport = worker["transports"][0]
    tls = {
        "key": "node.key",
        "certificate": "/etc/ssl/node.crt",
        "ciphers": "x",
        "chain_certificates": ["chain/1.crt", "/etc/ssl/2.crt"],
    }
    transport["endpoint"]["tls"] = copy.deepcopy(tls)
    worker["transports"].append({"type": "web", "endpoint": {"type": "tcp", "port": 1, "tls": copy.deepcopy(tls)}})
    transport["paths"]["/"] = {"type": "static", "directory": "../www"}
    effective = effective_config(config, base=BASE, state_dir=Path("/state"), address=listen_endpoint_of(config))
    worker = effective["workers"][0]
    assert worker["options"]["pythonpath"] == ["/etc/trishula/plugins", "/opt/plugins"]
    for transport in worker["transports"]:
        assert transport["endpoint"]["tls"] == {
            "key": "/etc/trishula/node.key",
            "certificate": "/etc/ssl/node.crt",
            "ciphers": "x",
            "chain_certificates": ["/etc/trishula/chain/1.crt", "/etc/ssl/2.crt"],
        }
    assert worker["transports"][0]["paths"]["/"]["directory"] == "/etc/trishula/../www"


def test_the_result_is_good_and_is_written_as_it_is_read() -> None:
    config = read_config_file(SHIPPED)
    effective = effective_config(config, base=BASE, state_dir=Path("state"), address=ListenEndpoint("::1", 1234))
    assert check_config(effective, base=BASE) == ()
    assert check_with_crossbar(effective) == ()
    assert json.loads(render_config(effective)) == effective
    assert options_of(effective)["state"] == str(Path.cwd() / "state")
    assert listen_endpoint_of(effective) == ListenEndpoint("::1", 1234)


def test_everywhere_is_everywhere_whatever_the_file_says() -> None:
    config = read_config_file(SHIPPED)
    everywhere = ListenEndpoint("", 1234)
    assert (
        listen_endpoint_of(effective_config(config, base=BASE, state_dir=Path("state"), address=everywhere))
        == everywhere
    )


def test_a_port_may_be_a_variable_and_is_a_number_in_what_runs() -> None:
    config = read_config_file(SHIPPED)
    endpoint = config["workers"][0]["transports"][0]["endpoint"]
    endpoint.update(port="$NODE_PORT", interface=" ::1 ")
    address = listen_endpoint_of(config, environ={"NODE_PORT": "4711"})
    assert address == ListenEndpoint("::1", 4711)
    effective = effective_config(config, base=BASE, state_dir=Path("state"), address=address)
    assert effective["workers"][0]["transports"][0]["endpoint"]["port"] == 4711
    with pytest.raises(LookupError, match="NODE_PORT is not set"):
        listen_endpoint_of(config, environ={})


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (ListenEndpoint("127.0.0.1", 8765), "ws://127.0.0.1:8765/ws"),
        (ListenEndpoint("0.0.0.0", 8765), "ws://127.0.0.1:8765/ws"),
        (ListenEndpoint("", 8765), "ws://127.0.0.1:8765/ws"),
        (ListenEndpoint("node.example", 80), "ws://node.example:80/ws"),
        (ListenEndpoint("::1", 8765), "ws://[::1]:8765/ws"),
        (ListenEndpoint("::", 8765), "ws://[::1]:8765/ws"),
    ],
)
def test_the_address_as_agents_name_it(address: ListenEndpoint, url: str) -> None:
    assert address.url == url
    assert address.page == url.replace("ws://", "http://").removesuffix("ws")


def test_a_configuration_without_our_parts_is_named_as_such() -> None:
    with pytest.raises(LookupError, match="has no component with options"):
        options_of({"workers": []})
    with pytest.raises(LookupError, match="has no transport with a WebSocket path"):
        listen_endpoint_of({"workers": [{"type": "router"}]})
