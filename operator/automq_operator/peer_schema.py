"""A peer of a NetworkPolicy as OpenAPI: typed whole, so that a typo is refused and not silently nobody."""

from typing import Any, Final

Schema = dict[str, Any]

MAX_ITEMS: Final = 32
CIDR: Final = "^[0-9A-Fa-f.:]+/[0-9]{1,3}$"

_TEXT: Final[Schema] = {"type": "string", "maxLength": 253}
_RANGE: Final[Schema] = {"type": "string", "maxLength": 64, "pattern": CIDR}
_EXPRESSION: Final[Schema] = {
    "type": "object",
    "required": ["key", "operator"],
    "properties": {
        "key": {**_TEXT, "description": "Label."},
        "operator": {
            "type": "string",
            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
            "description": "How its value is compared.",
        },
        "values": {"type": "array", "maxItems": MAX_ITEMS, "items": _TEXT, "description": "With what."},
    },
}


def _selector(description: str) -> Schema:
    labels = {"type": "object", "maxProperties": MAX_ITEMS, "additionalProperties": _TEXT}
    return {
        "type": "object",
        "description": description,
        "properties": {
            "matchLabels": {**labels, "description": "Labels that it has."},
            "matchExpressions": {
                "type": "array",
                "maxItems": MAX_ITEMS,
                "items": _EXPRESSION,
                "description": "What else its labels must be.",
            },
        },
    }


PEER: Final[Schema] = {
    "minProperties": 1,
    "properties": {
        "ipBlock": {
            "type": "object",
            "required": ["cidr"],
            "description": "Addresses outside the Kubernetes cluster.",
            "properties": {
                "cidr": {**_RANGE, "description": "Range of addresses."},
                "except": {
                    "type": "array",
                    "maxItems": MAX_ITEMS,
                    "items": _RANGE,
                    "description": "Ranges in it that may not.",
                },
            },
        },
        "namespaceSelector": _selector("Namespaces of pods; {} is all."),
        "podSelector": _selector("Pods, of the cluster's namespace unless namespaceSelector says otherwise."),
    },
}
