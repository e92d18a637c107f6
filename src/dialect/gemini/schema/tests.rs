use super::*;

fn cut(schema: Value) -> Value {
    openapi(&schema).expect("small enough")
}

/// The placeholder of an object whose fields are unknown.
fn open() -> Value {
    Value::Object(open_object(None))
}

#[test]
fn each_keyword_of_json_schema() {
    for (given, expected) in [
        (json!({"type": "string", "$schema": "x", "$id": "y", "strict": true}), json!({"type": "string"})),
        (
            json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 9, "multipleOf": 2}),
            json!({"type": "number"}),
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 9, "title": "t", "description": "d", "default": 5}),
            json!({"type": "integer", "title": "t", "description": "d", "minimum": 1, "maximum": 9, "default": 5}),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true, "minItems": 1, "contains": {}}),
            json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
        ),
        (json!({"type": "array"}), json!({"type": "array", "items": {"type": "string"}})),
        (json!({"type": "array", "items": true}), json!({"type": "array", "items": {"type": "string"}})),
        (
            json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}, {"type": "string"}]}),
            json!({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "gone"], "additionalProperties": false, "patternProperties": {}, "propertyNames": {}, "not": {}}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
        ),
    ] {
        assert_eq!(cut(given.clone()), expected, "{given}");
    }
}

#[test]
fn each_way_to_choose_and_to_compose() {
    for (given, expected) in [
        (json!({"const": "a"}), json!({"type": "string", "enum": ["a"]})),
        (
            json!({"enum": ["a", "", "a", "b", null]}),
            json!({"type": "string", "enum": ["a", "b"], "nullable": true}),
        ),
        (json!({"enum": [1, 2]}), json!({"type": "integer", "description": "One of: 1, 2."})),
        (
            json!({"const": true, "description": "Yes."}),
            json!({"type": "boolean", "description": "Yes. One of: true."}),
        ),
        (json!({"type": ["string", "null"]}), json!({"type": "string", "nullable": true})),
        (json!({"type": "null"}), json!({"type": "null"})),
        (json!({"type": ["string", "integer"]}), json!({"anyOf": [{"type": "string"}, {"type": "integer"}]})),
        (
            json!({"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "d"}),
            json!({"type": "integer", "description": "d", "nullable": true}),
        ),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "string", "format": "uri"}]}),
            json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        (
            json!({"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "integer"}}, "required": ["b"]}, {"required": ["a"]}]}),
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["b", "a"]}),
        ),
        (
            json!({"type": "object", "properties": {"a": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
        ),
        (json!({"type": "string", "format": "date-time"}), json!({"type": "string", "format": "date-time"})),
        (json!({"type": "string", "format": "email"}), json!({"type": "string"})),
        (json!({"type": "integer", "format": "int64"}), json!({"type": "integer", "format": "int64"})),
        (json!({"type": "string", "nullable": true}), json!({"type": "string", "nullable": true})),
        (json!({"type": "STRING"}), json!({"type": "STRING"})),
        (json!(true), json!({"type": "string"})),
        (json!({"type": "object"}), open()),
        (json!({"type": "object", "additionalProperties": {"type": "string"}}), open()),
    ] {
        assert_eq!(cut(given.clone()), expected, "{given}");
    }
}

#[test]
fn references_are_put_in_place_and_recursion_is_cut() {
    let schema = json!({
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/Node", "description": "The tree."}, "old": {"$ref": "#/definitions/Name"}, "gone": {"$ref": "#/$defs/Gone"}, "out": {"$ref": "https://a/b"}},
        "required": ["tree"],
        "$defs": {"Node": {"type": "object", "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}}},
        "definitions": {"Name": {"type": "string"}}});
    let node = json!({"type": "object", "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": open()}}, "description": "The tree."});
    assert_eq!(
        cut(schema),
        json!({"type": "object", "properties": {"tree": node, "old": {"type": "string"}, "gone": open(), "out": open()}, "required": ["tree"]})
    );
    // The root may name itself.
    let root = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
    assert!(cut(root).to_string().contains("next"));
}

/// Walks every schema of what `openapi` made.
fn check(schema: &Value, known: &[&str]) {
    let fields = schema.as_object().expect("an object");
    for (name, value) in fields {
        assert!(known.contains(&name.as_str()), "{name} in {schema}");
        match (name.as_str(), value) {
            ("properties" | "$defs", Value::Object(all)) => all.values().for_each(|one| check(one, known)),
            ("items", one) => check(one, known),
            ("additionalProperties", Value::Object(_)) => check(value, known),
            ("anyOf" | "oneOf" | "prefixItems", Value::Array(all)) => {
                all.iter().for_each(|one| check(one, known))
            }
            _ => {}
        }
    }
}

/// A schema that uses everything, nested in everything.
fn everything() -> Value {
    let all = json!({"$schema": "s", "$id": "i", "$comment": "c", "$anchor": "a", "type": "object", "title": "t", "examples": [1],
        "deprecated": true, "readOnly": true, "if": {}, "then": {}, "else": {}, "dependentRequired": {}, "minContains": 1,
        "unevaluatedProperties": false, "contentEncoding": "x", "of_tomorrow": {}, "exclusiveMinimum": 1, "pattern": "p",
        "minLength": 1, "multipleOf": 2, "uniqueItems": true, "const": "k", "nullable": true, "propertyNames": {}});
    let mut outer = all.clone();
    outer["properties"] = json!({"p": all, "i": {"type": "array", "items": all}, "r": {"$ref": "#/$defs/d"}});
    outer["anyOf"] = json!([all, {"type": "string", "of_tomorrow": 1}]);
    outer["allOf"] = json!([all]);
    outer["oneOf"] = json!([all]);
    outer["$defs"] = json!({"d": all});
    outer["additionalProperties"] = all;
    outer
}

#[test]
fn nothing_passes_that_is_not_on_the_list() {
    let openapi_known = [
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "items",
        "minItems",
        "maxItems",
        "properties",
        "required",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "example",
        "anyOf",
        "propertyOrdering",
        "default",
    ];
    check(&cut(everything()), &openapi_known);
    let json_known = [
        "$id",
        "$defs",
        "$ref",
        "$anchor",
        "type",
        "format",
        "title",
        "description",
        "enum",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "anyOf",
        "oneOf",
        "properties",
        "additionalProperties",
        "required",
        "propertyOrdering",
    ];
    check(&json(&everything()), &json_known);
}

#[test]
fn json_schema_keeps_references_and_moves_what_has_another_name() {
    for (given, expected) in [
        (
            json!({"type": "object", "properties": {"a": {"$ref": "#/definitions/A", "description": "gone"}}, "definitions": {"A": {"type": "string", "pattern": "x"}}, "additionalProperties": false}),
            json!({"type": "object", "$defs": {"A": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/A"}}, "additionalProperties": false}),
        ),
        (json!({"const": 5}), json!({"enum": [5]})),
        (
            json!({"oneOf": [{"type": "string"}, {"type": "null"}]}),
            json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ),
        (json!({"type": "string", "nullable": true}), json!({"type": ["string", "null"]})),
        (json!({"allOf": [{"$ref": "#/$defs/A"}], "description": "gone"}), json!({"$ref": "#/$defs/A"})),
        (
            json!({"allOf": [{"type": "object", "required": ["a"]}, {"required": ["b"]}]}),
            json!({"type": "object", "required": ["a", "b"]}),
        ),
        (
            json!({"type": "array", "items": {"type": "integer", "multipleOf": 2}}),
            json!({"type": "array", "items": {"type": "integer"}}),
        ),
    ] {
        assert_eq!(json(&given), expected, "{given}");
    }
}

#[test]
fn a_schema_cannot_unfold_without_bound() {
    // Each step refers twice to the next one: 2^40 without a bound.
    let mut defs = Map::new();
    for step in 0..40 {
        let next = json!({"$ref": format!("#/$defs/s{}", step + 1)});
        defs.insert(format!("s{step}"), json!({"type": "object", "properties": {"a": next, "b": next}}));
    }
    assert_eq!(openapi(&json!({"$ref": "#/$defs/s0", "$defs": defs})), None);
    // A large text, referred to often.
    let text = "x".repeat(100_000);
    let many: Map<String, Value> = (0..1000).map(|n| (n.to_string(), json!({"$ref": "#/$defs/t"}))).collect();
    assert_eq!(
        openapi(
            &json!({"type": "object", "properties": many, "$defs": {"t": {"type": "string", "description": text}}})
        ),
        None
    );
    // Deep, by references (a body's own nesting is bounded by the parser).
    let chain: Map<String, Value> = (0..5000)
        .map(|n| {
            (format!("s{n}"), json!({"type": "array", "items": {"$ref": format!("#/$defs/s{}", n + 1)}}))
        })
        .collect();
    assert!(openapi(&json!({"$ref": "#/$defs/s0", "$defs": chain})).is_some());
}

#[test]
fn a_function_without_parameters_has_none() {
    for empty in [
        json!({}),
        json!({"type": "object"}),
        json!({"type": "object", "properties": {}, "additionalProperties": false, "required": []}),
    ] {
        assert!(is_empty_object(&empty), "{empty}");
    }
    for full in [
        json!({"properties": {"a": {}}}),
        json!({"$ref": "#/$defs/A"}),
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
    ] {
        assert!(!is_empty_object(&full), "{full}");
    }
}
