//! Reads JSON in which no object has a key twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::BundleError;

/// Reads one JSON value of at most 1 MiB with nothing after it. Readers differ in which of two equal keys they
/// believe, so a document that has them is refused (SPIFFE_Trust_Domain_and_Bundle.md §6.3 asks it of bundle maps).
pub(super) fn read(text: &str) -> Result<Value, BundleError> {
    if text.len() > MAX_JSON_BYTES {
        return Err(BundleError::TooLarge {
            bytes: text.len(),
            limit: MAX_JSON_BYTES,
        });
    }
    serde_json::from_str::<Unique>(text)
        .map(|unique| unique.0)
        .map_err(|source| BundleError::Json { source })
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Unique, E> {
        Ok(Unique(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Unique, E> {
        Ok(Unique(Value::Bool(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Unique, E> {
        Ok(Unique(Value::Number(value.into())))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Unique, E> {
        Ok(Unique(Value::Number(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Unique, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that is not finite"))?;
        Ok(Unique(Value::Number(number)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Unique, E> {
        Ok(Unique(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        let mut all = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Unique(Value::Array(all)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
        let mut all = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if all.contains_key(&key) {
                let short: String = key.chars().take(MAX_KEY_CHARS).collect();
                return Err(A::Error::custom(format_args!("the key {short:?} is there twice")));
            }
            let Unique(value) = entries.next_value()?;
            all.insert(key, value);
        }
        Ok(Unique(Value::Object(all)))
    }
}

/// The longest document that is read, in bytes.
const MAX_JSON_BYTES: usize = 1024 * 1024;

/// How much of a repeated key an error repeats.
const MAX_KEY_CHARS: usize = 64;
