"""The files that operators get: nginx's site, units of systemd, and what else runs beside a node.

Each is a text in this folder in the syntax of :class:`string.Template`: ``${node}`` is put in, and a dollar that stays
is written ``$$``. :data:`TEMPLATES` lists them with where ``trishula init`` writes each; what a template may name is in
:data:`VALUES`. What lies in ``deploy/`` for the sample cluster of agni and rushabdev is what the templates render with
:data:`SAMPLE`, and a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from string import Template as Text

__all__ = ["SAMPLE", "TEMPLATES", "VALUES", "Template", "render"]


@dataclass(frozen=True, slots=True)
class Template:
    """A file for an operator.

    Attributes:
        name: the file in this folder.
        target: where ``trishula init`` writes what it renders, below the directory of each machine.
        sample: where the rendered sample lies, below ``deploy/``.
    """

    name: str
    target: str
    sample: str


#: All of them.
TEMPLATES = (
    Template("site.conf", "nginx/trishula.conf", "nginx/trishula.conf"),
    Template("nginx.conf", "nginx/nginx.conf", "nginx/nginx.conf"),
    Template("trishula-node.service", "systemd/trishula-node.service", "systemd/trishula-node.service"),
    Template("trishula-agent@.service", "systemd/trishula-agent@.service", "systemd/trishula-agent@.service"),
    Template("docker-compose.yml", "docker-compose.yml", "docker-compose.yml"),
)

#: What a template may name, and what that is.
VALUES: Mapping[str, str] = {
    "node": "the name of the machine's node",
    "host": "the name or address under which others reach the machine",
    "operator": "the name of the agent that may ask for everything",
    "program": "the path of the program trishula on the machine",
    "config": "the path of the node's configuration on the machine",
    "state": "the path of the node's state directory on the machine",
    "upstreams": "lines of nginx: where the nodes listen, the machine's own first, the others as backup",
    "upstream_scheme": "how nginx speaks to the nodes: http or https",
    "upstream_tls": "lines of nginx: how it verifies the nodes' certificates; empty for http",
    "listen_http": "lines of nginx: where it listens for those who forgot the s of https",
    "listen_https": "lines of nginx: where it listens for clients",
    "to_https": "what follows the host in a redirect to https: empty for port 443, else a colon and the port",
    "certificate": "the path of the certificate that nginx shows to clients",
    "certificate_key": "the path of its key",
}

#: The machine of the sample cluster's first node: ``deploy/install.sh`` puts things there.
SAMPLE: Mapping[str, str] = {
    "node": "agni",
    "host": "agni.example",
    "operator": "operator",
    "program": "/opt/trishula/bin/trishula",
    "config": "/etc/trishula/node.json",
    "state": "/var/lib/trishula",
    "upstreams": "    server 127.0.0.1:8765 max_fails=1 fail_timeout=2s;\n    server rushabdev.example:8765 backup;",
    "upstream_scheme": "https",
    "upstream_tls": (
        "    # The nodes' certificates are of the cluster's own authority, and each has this name too.\n"
        "    proxy_ssl_verify on;\n"
        "    proxy_ssl_trusted_certificate /etc/trishula/tls/ca.crt;\n"
        "    proxy_ssl_name node.trishula;\n"
        "    proxy_ssl_server_name on;\n"
        "    proxy_ssl_protocols TLSv1.3;\n"
    ),
    "listen_http": "    listen 80;\n    listen [::]:80;",
    "listen_https": "    listen 443 ssl;\n    listen [::]:443 ssl;",
    "to_https": "",
    "certificate": "/etc/trishula/tls/node.crt",
    "certificate_key": "/etc/trishula/tls/node.key",
}


def render(template: Template, values: Mapping[str, str]) -> str:
    """The text of a file.

    Args:
        template: which.
        values: for each of :data:`VALUES` that it names; others may be there too.

    Raises:
        KeyError: one that it names is missing.
    """
    return Text((files(__name__) / template.name).read_text(encoding="utf-8")).substitute(values)
