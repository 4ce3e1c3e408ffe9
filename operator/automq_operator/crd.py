"""The CRD, made from the models of `api`: `make crds` writes it, a test makes it again and compares.

OpenAPI says types, bounds and defaults; CEL rules say what a schema cannot. No webhook: the API server refuses a bad
spec even while the operator is down, with a message that names the field.
"""

import typing
from collections.abc import Iterator
from types import UnionType
from typing import Any, Final, Literal

import msgspec

from automq_operator import api

Schema = dict[str, Any]


def _quoted(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


_OWNED_KEY_RULE: Final = (
    f"self.all(key, !(key in {_quoted(api.OWNED_KEYS)}) && !{_quoted(api.OWNED_PREFIXES)}.exists(p, key.startsWith(p)))"
)


def _frozen(field: str) -> str:
    """A rule for an optional field that may neither change nor come nor go."""
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"


# CEL rules by the path of the schema they belong to; () is the resource itself.
RULES: Final[dict[tuple[str, ...], list[tuple[str, str, str]]]] = {
    (): [
        (
            "!has(oldSelf.status) || !has(oldSelf.status.clusterId) || ("
            "has(self.spec.storage.endpoint) == has(oldSelf.spec.storage.endpoint) && "
            "(!has(self.spec.storage.endpoint) || self.spec.storage.endpoint == oldSelf.spec.storage.endpoint))",
            "storage.endpoint cannot change any more: the cluster has an id there; make a new resource",
            ".spec.storage.endpoint",
        )
    ],
    # The one place that keeps clusters at one broker.
    ("spec", "replicas"): [("self <= 1", "replicas above 1 are not supported yet: a cluster has one broker", "")],
    ("spec", "storage"): [
        ("self.bucket == oldSelf.bucket", "storage.bucket cannot change: make a new resource", ".bucket"),
        (_frozen("prefix"), "storage.prefix cannot change, come or go: make a new resource", ".prefix"),
    ],
    ("spec", "wal"): [("self.type == oldSelf.type", "wal.type cannot change: make a new resource", ".type")],
    ("spec", "listeners"): [
        ("self.all(a, self.exists_one(b, a.name == b.name))", "listener names must be unique", ""),
        ("self.all(a, self.exists_one(b, a.port == b.port))", "listener ports must be unique", ""),
        ("self.exists(a, a.type == 'Internal')", "one listener of type Internal is needed", ""),
        ("self.all(a, a.port != 9404)", "port 9404 is the brokers' HTTP port", ""),
        (
            "self.all(a, a.type == 'NodePort' || (!has(a.host) && !has(a.nodePort)))",
            "host and nodePort belong to listeners of type NodePort",
            "",
        ),
    ],
    ("spec", "config"): [
        (
            _OWNED_KEY_RULE,
            "config may not name what the operator sets itself: " + ", ".join(api.OWNED_KEYS + api.OWNED_PREFIXES),
            "",
        )
    ],
}

MAX_PROPERTIES: Final = 128
MAX_STRING: Final = 4096

PRINTER_COLUMNS: Final = [
    ("Ready", "string", ".status.ready", "Serving and wanted brokers", 0),
    ("Status", "string", ".status.phase", "Summary", 0),
    ("Want", "integer", ".spec.replicas", "Wanted brokers", 0),
    ("WAL", "string", ".spec.wal.type", "Write-ahead log", 0),
    ("Age", "date", ".metadata.creationTimestamp", "", 0),
    ("Bootstrap", "string", ".status.bootstrap", "Address for clients in the Kubernetes cluster", 1),
    ("Cluster", "string", ".status.clusterId", "Cluster id", 1),
]


def custom_resource_definition() -> Schema:
    """The whole manifest."""
    columns = [
        {"name": name, "type": kind, "jsonPath": path, "description": text, "priority": priority}
        for name, kind, path, text, priority in PRINTER_COLUMNS
    ]
    version = {
        "name": api.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": _resource_schema()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{api.PLURAL}.{api.GROUP}",
            # Deleting a CRD deletes every resource of its kind in every namespace, so no uninstall may do it.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": api.GROUP,
            "names": {
                "kind": api.KIND,
                "listKind": f"{api.KIND}List",
                "plural": api.PLURAL,
                "singular": api.KIND.lower(),
                "shortNames": ["amq"],
                "categories": ["automq"],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def _resource_schema() -> Schema:
    schema: Schema = {
        "type": "object",
        "description": "A Kafka cluster whose brokers keep every record in object storage.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _model_schema(api.Spec, ("spec",)),
            "status": _model_schema(api.Status, ("status",)),
        },
    }
    return _with_rules(schema, ())


def _with_rules(schema: Schema, path: tuple[str, ...]) -> Schema:
    rules = RULES.get(path)
    if rules:
        schema["x-kubernetes-validations"] = [
            {"rule": rule, "message": message} | ({"fieldPath": field} if field else {})
            for rule, message, field in rules
        ]
    return schema


def _model_schema(model: type[msgspec.Struct], path: tuple[str, ...]) -> Schema:
    description = " ".join((model.__doc__ or "").split())
    schema: Schema = {"type": "object", "description": description, "properties": {}}
    hints = typing.get_type_hints(model, include_extras=True)
    required = []
    for field in msgspec.structs.fields(model):
        child = _field_schema(hints[field.name], (*path, field.encode_name))
        in_status = path[0] == "status"
        if field.required:
            required.append(field.encode_name)
        elif not in_status and (default := _default(field)) is not None:
            child["default"] = default
        schema["properties"][field.encode_name] = child
    if required:
        schema["required"] = required
    return _with_rules(schema, path)


def _default(field: msgspec.structs.FieldInfo) -> object | None:
    """What the API server fills in: None where absence itself means something."""
    made = field.default_factory is not msgspec.NODEFAULT
    value = field.default_factory() if made else field.default
    return _without_absent(msgspec.to_builtins(value))


def _without_absent(value: object) -> object | None:
    """Builtins without nulls and empty containers; None where nothing is left."""
    if isinstance(value, dict):
        kept = {key: _without_absent(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None} or None
    if isinstance(value, list):
        return [_without_absent(item) for item in value] or None
    return value


def _unwrap(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    """The bare type of a hint, without Annotated and Optional, and its Meta."""
    metas: list[msgspec.Meta] = []
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            metas += [item for item in hint.__metadata__ if isinstance(item, msgspec.Meta)]
            hint = hint.__origin__
        elif typing.get_origin(hint) in (UnionType, typing.Union) and type(None) in typing.get_args(hint):
            (hint,) = [argument for argument in typing.get_args(hint) if argument is not type(None)]
        else:
            return hint, metas


def _field_schema(hint: Any, path: tuple[str, ...]) -> Schema:
    bare, metas = _unwrap(hint)
    schema = _type_schema(bare, path)
    for meta in metas:
        schema |= dict(_constraints(meta, schema.get("type", "")))
    if schema.get("type") == "string" and "enum" not in schema:
        schema.setdefault("maxLength", MAX_STRING)
    return _with_rules(schema, path)


def _constraints(meta: msgspec.Meta, kind: str) -> Iterator[tuple[str, Any]]:
    names = {
        "ge": "minimum", "le": "maximum", "pattern": "pattern", "description": "description",
        "min_length": "minItems" if kind == "array" else "minLength",
        "max_length": "maxItems" if kind == "array" else "maxLength",
    }  # fmt: skip
    for ours, theirs in names.items():
        value = getattr(meta, ours)
        if value is not None:
            yield theirs, value
    yield from (meta.extra_json_schema or {}).items()


def _type_schema(bare: Any, path: tuple[str, ...]) -> Schema:
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _field_schema(arguments[0], (*path, "[]"))}
    if origin is dict:
        return _map_schema(arguments[1])
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return _model_schema(bare, path)
    simple = {str: "string", int: "integer", bool: "boolean", float: "number"}
    return {"type": simple[bare]}


def _map_schema(value: Any) -> Schema:
    if value is object:
        return {"type": "object"}
    if value is str:
        item: Schema = {"type": "string", "maxLength": MAX_STRING}
    else:
        item = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    return {"type": "object", "maxProperties": MAX_PROPERTIES, "additionalProperties": item}
