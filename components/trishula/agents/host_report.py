"""What a machine is doing now, from psutil: the report that each agent gives of its host, and what all agents share."""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from typing import Any

import psutil

from trishula.agent import Agent
from trishula.contract.message import Message
from trishula.errors import ArgumentInvalid

__all__ = ["add_common", "host_report"]

_log = logging.getLogger("trishula")

#: The processor's load is a difference between two instants; a shorter one measures mostly the measurement.
_CPU_SPAN_S = 0.2


def host_report(disk: str = "/") -> dict[str, Any]:
    """The host's processor, memory, disk, network and uptime, measured now. Blocks for a fifth of a second.

    Args:
        disk: where the file system to report is mounted. No other path: whoever asks would learn which there are, and
            could have us wait for a server that is away.

    Raises:
        ArgumentInvalid: no file system of this host's disks is mounted there.
    """
    mounted = dict.fromkeys(("/", *(one.mountpoint for one in psutil.disk_partitions())))
    if disk not in mounted:
        where = ", ".join(mounted)
        raise ArgumentInvalid(f"disk is {disk!r}; it must be where a disk of this host is mounted: {where}")
    try:
        space = psutil.disk_usage(disk)
    except OSError as error:
        raise ArgumentInvalid(f"disk is {disk!r}, and it can't be looked at: {error.strerror}") from None
    cpu_percent = psutil.cpu_percent(interval=_CPU_SPAN_S)
    memory, swap, network = psutil.virtual_memory(), psutil.swap_memory(), psutil.net_io_counters()
    now_s, booted_s = time.time(), psutil.boot_time()
    return {
        "host": socket.gethostname(),
        "taken_at": int(now_s * 1000),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "uptime_s": int(now_s - booted_s),
        "cpu": {"cores": psutil.cpu_count() or 0, "percent": cpu_percent, "load": list(os.getloadavg())},
        "memory": {
            "total_bytes": memory.total,
            "available_bytes": memory.available,
            "percent": memory.percent,
            "swap_used_bytes": swap.used,
        },
        "disk": {
            "path": disk,
            "total_bytes": space.total,
            "free_bytes": space.free,
            "percent": space.percent,
        },
        "network": {"sent_bytes": network.bytes_sent, "received_bytes": network.bytes_recv},
        "processes": len(psutil.pids()),
    }


def add_common(agent: Agent) -> None:
    """What each of the three agents has: ``host_report``, ``ping``, and an ear for STATUS messages."""
    agent.add_procedure(host_report, thread=True)

    @agent.procedure()
    def ping() -> str:
        """The smallest procedure there is: for latency, and to see that somebody is there."""
        return "pong"

    @agent.on("STATUS", "ERROR")
    def heard(message: Message) -> None:
        text = message.subject or str(message.payload)
        _log.info("%s from %s: %s", message.type, message.sender, text if len(text) <= 200 else f"{text[:200]}…")
