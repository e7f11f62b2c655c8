use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Kind, Kinds, forms};

/// The JSON Schema (2020-12) of a pipeline file, for editors; it knows every kind's own configuration.
pub fn schema(kinds: &Kinds<'_>) -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let common = common(&mut generator);
    let gates: Vec<Kind> = kinds.gates.iter().map(|g| g.kind).collect();
    let targets: Vec<Kind> = kinds.targets.iter().map(|t| t.kind).collect();
    let gate = one_of(&mut generator, "Something that must hold.", &gates, common);
    let target = one_of(&mut generator, "How a release becomes live.", &targets, Map::new());
    let channel = one_of(&mut generator, "Where people are told.", kinds.channels, Map::new());
    let gate_use = json!({ "anyOf": [{ "type": "string", "description": "The name of a gate." }, any("AnyGate")] });
    let defined = [("AnyGate", gate), ("AnyTarget", target), ("AnyChannel", channel), ("GateUse", gate_use)];
    generator.definitions_mut().extend(defined.map(|(name, schema)| (name.to_owned(), schema)));
    let mut schema = generator.into_root_schema_for::<forms::File>();
    schema.insert("title".to_owned(), json!("a piton pipeline"));
    // Pieces of YAML that others refer to by alias may stand under keys of this form.
    schema.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
    schema.to_value()
}

fn any(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// What every gate has besides its kind.
fn common(generator: &mut schemars::SchemaGenerator) -> Map<String, Value> {
    let schema = <forms::GateCommon as schemars::JsonSchema>::json_schema(generator);
    schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// A mapping with exactly one of the kinds as key.
fn one_of(
    generator: &mut schemars::SchemaGenerator,
    about: &str,
    kinds: &[Kind],
    mut properties: Map<String, Value>,
) -> Value {
    for kind in kinds {
        let mut schema = (kind.schema)(generator);
        if schema.get("description").is_none() {
            schema.insert("description".to_owned(), json!(kind.about));
        }
        properties.insert(kind.name.to_owned(), schema.to_value());
    }
    let choice: Vec<Value> = kinds.iter().map(|kind| json!({ "required": [kind.name] })).collect();
    let mut schema =
        json!({ "description": about, "type": "object", "properties": properties, "additionalProperties": false });
    if !choice.is_empty() {
        schema["oneOf"] = Value::Array(choice);
    }
    schema
}
