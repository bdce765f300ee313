"""The machine that something was measured on, as it is kept beside the numbers and told below a page."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "numpy", "torch", "x-transformers", "transformers", "safetensors", "triton")


def machine() -> dict[str, Any]:
    """The processor, the devices, and the versions of all that takes part."""
    devices = jax.devices()
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": cores(),
        # A name for readers, and the platform by which a CPU is told from what is added to it.
        "devices": [f"{len(devices)} x {devices[0].device_kind}", devices[0].platform],
        "python": platform.python_version(),
        "versions": _versions(),
    }


def cores() -> int:
    """The cores that this process may use."""
    # A container may grant fewer cores than the machine has; systems other than Linux cannot say which.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        # What is not installed took no part, and is not named.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _processor() -> str:
    # On Linux, Python's own answer is the architecture alone, "x86_64", or nothing.
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def described(machine: Mapping[str, Any]) -> str:
    """The machine in one sentence."""
    parts = [machine["date"], machine["processor"], f"{machine['cores']} cores"]
    device, device_platform = machine["devices"]
    # A CPU is its own device: it would be named twice.
    if device_platform != "cpu":
        parts.append(device)
    parts.append(f"Python {machine['python']}")
    versions = [f"{name} {version}" for name, version in machine["versions"].items()]
    return ", ".join(parts + versions)
