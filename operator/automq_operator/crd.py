"""The CRD, made from the models of `api`: `make crds` writes it, a test makes it again and compares.

OpenAPI says types, bounds and defaults; CEL rules say what a schema cannot. No webhook: the API server refuses a bad
spec even while the operator is down, with a message that names the field.
"""

import typing
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Final, Literal

import msgspec

from automq_operator import api
from automq_operator.resource import Resource, Rule

Schema = dict[str, Any]


MAX_PROPERTIES: Final = 128
MAX_QUANTITIES: Final = 16
MAX_STRING: Final = 4096


def custom_resource_definition(resource: Resource) -> Schema:
    """The whole manifest."""
    columns = [
        {
            "name": column.name,
            "type": column.type,
            "jsonPath": column.json_path,
            "description": column.description,
            "priority": int(column.wide),
        }
        for column in resource.columns
    ]
    version = {
        "name": api.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": _resource_schema(resource)},
        "subresources": _subresources(resource),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{resource.plural}.{api.GROUP}",
            # Deleting a CRD deletes every resource of its kind in every namespace, so no uninstall may do it.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": api.GROUP,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": ["automq"],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def _subresources(resource: Resource) -> Schema:
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return {"status": {}} | ({"scale": scale} if resource.scale else {})


def _resource_schema(resource: Resource) -> Schema:
    maker = _Maker(resource.rules)
    schema: Schema = {
        "type": "object",
        "description": resource.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            # Bounds what rules about the name may cost; Kubernetes' own bound.
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": maker.model(resource.spec, ("spec",)),
            "status": maker.model(resource.status, ("status",)),
        },
    }
    return maker.with_rules(schema, ())


class _Maker:
    """Makes schemas of models, with the rules of one resource."""

    def __init__(self, rules: Mapping[tuple[str, ...], Sequence[Rule]]) -> None:
        self._rules = rules

    def with_rules(self, schema: Schema, path: tuple[str, ...]) -> Schema:
        rules = self._rules.get(path)
        if rules:
            schema["x-kubernetes-validations"] = [
                {"rule": rule, "message": message}
                | ({"fieldPath": field} if field else {})
                | ({"optionalOldSelf": True} if "oldSelf.hasValue()" in rule else {})
                for rule, message, field in rules
            ]
        return schema

    def model(self, model: type[msgspec.Struct], path: tuple[str, ...]) -> Schema:
        description = " ".join((model.__doc__ or "").split())
        schema: Schema = {"type": "object", "description": description, "properties": {}}
        hints = typing.get_type_hints(model, include_extras=True)
        required = []
        for field in msgspec.structs.fields(model):
            child = self._field(hints[field.name], (*path, field.encode_name))
            in_status = path[0] == "status"
            if field.required:
                required.append(field.encode_name)
            elif not in_status and (default := _default(field)) is not None:
                child["default"] = default
            schema["properties"][field.encode_name] = child
        if required:
            schema["required"] = required
        return self.with_rules(schema, path)

    def _field(self, hint: Any, path: tuple[str, ...]) -> Schema:
        bare, metas = _unwrap(hint)
        schema = self._type(bare, path)
        for meta in metas:
            schema |= dict(_constraints(meta, schema.get("type", "")))
        if schema.get("type") == "string" and "enum" not in schema:
            schema.setdefault("maxLength", MAX_STRING)
        return self.with_rules(schema, path)

    def _type(self, bare: Any, path: tuple[str, ...]) -> Schema:
        origin, arguments = typing.get_origin(bare), typing.get_args(bare)
        if origin is Literal:
            return {"type": "string", "enum": list(arguments)}
        if origin is list:
            return {"type": "array", "items": self._field(arguments[0], (*path, "[]"))}
        if origin is dict:
            return _map_schema(arguments[1])
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            return self.model(bare, path)
        simple = {str: "string", int: "integer", bool: "boolean", float: "number"}
        return {"type": simple[bare]}


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


def _map_schema(value: Any) -> Schema:
    bare, metas = _unwrap(value)
    if bare is object:
        return {"type": "object"}
    if bare is str:
        item: Schema = {"type": "string", "maxLength": MAX_STRING}
        for meta in metas:
            item |= dict(_constraints(meta, "string"))
        return {"type": "object", "maxProperties": MAX_PROPERTIES, "additionalProperties": item}
    item = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}], "maxLength": 32}
    return {"type": "object", "maxProperties": MAX_QUANTITIES, "additionalProperties": item}
