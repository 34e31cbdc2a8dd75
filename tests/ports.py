"""A port of loopback that is free, and stays so until a test takes it.

It is below those that a system hands to whoever asks for any, and above those of Ray's workers.
"""

import random
import socket

PORTS = range(20_000, 32_000)


def free_port() -> int:
    """One at which nothing listens."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise RuntimeError(f"100 of {PORTS} are all taken")
