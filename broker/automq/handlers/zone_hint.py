"""Pure: the zone of a client that cannot set a rack, from its `client.id`."""

import functools
import re
from typing import Final

from automq.metadata.image import MetadataImage

CLIENT_ID_MAX: Final = 256
"""Characters in which a hint is looked for."""
_HINT: Final = re.compile(r"(?:^|[^A-Za-z0-9_])(?:automq_az|diskless_az|zone)=([^&,;\s]{1,64})")


@functools.lru_cache(maxsize=4096)
def _hint(client_id: str) -> str:
    found = _HINT.search(client_id)
    return "" if found is None else found[1]


def zone_hint(client_id: str | None) -> str:
    """The zone that a client's id tells; empty where it tells none."""
    if client_id is None or "=" not in client_id or len(client_id) > CLIENT_ID_MAX:
        return ""
    return _hint(client_id)


def known_zone(image: MetadataImage, client_id: str | None) -> str:
    """The same, where some broker is in that zone."""
    zone = zone_hint(client_id)
    return zone if zone in image.racks else ""
