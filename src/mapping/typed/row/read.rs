//! From columns to a struct.

use super::Unfit;
use rusqlite::types::ValueRef;
use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// The struct of a row: `values` stand in `columns`, one for each. Columns that no field has are
/// ignored, unless the struct refuses them.
pub(in crate::mapping::typed) fn from_row<T: DeserializeOwned>(
    columns: &[String],
    values: &[ValueRef<'_>],
) -> Result<T, Unfit> {
    T::deserialize(RowReader { rest: columns.iter().zip(values), value: None })
}

/// serde's own texts quote the value.
impl de::Error for Unfit {
    fn custom<M: std::fmt::Display>(_: M) -> Self {
        Self::new("its value does not fit its field")
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("it holds {}, and its field takes {expected}", kind(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("it holds another {} than its field takes: {expected}", word(&found)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("it holds {length} bytes, and its field takes {expected}"))
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self::new("it holds a text that names no variant")
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::new(format!("the struct has no field for column '{field}', and refuses it"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("no column is named as its field '{field}'"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("two columns are its field '{field}'"))
    }
}

/// The kind of a value with its article.
fn kind(found: &Unexpected<'_>) -> String {
    match word(found) {
        word @ "integer" => format!("an {word}"),
        word @ ("NULL" | "something else") => word.to_owned(),
        word => format!("a {word}"),
    }
}

fn word(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) | Unexpected::Signed(_) | Unexpected::Unsigned(_) => "integer",
        Unexpected::Float(_) => "real",
        Unexpected::Str(_) | Unexpected::Char(_) => "text",
        Unexpected::Bytes(_) | Unexpected::Seq => "blob",
        Unexpected::Unit | Unexpected::Option => "NULL",
        _ => "something else",
    }
}

type Rest<'a, 'v> =
    std::iter::Zip<std::slice::Iter<'a, String>, std::slice::Iter<'a, ValueRef<'v>>>;

struct RowReader<'a, 'v> {
    rest: Rest<'a, 'v>,
    /// The column whose name was read last.
    value: Option<(&'a str, ValueRef<'v>)>,
}

impl<'de> Deserializer<'de> for RowReader<'_, '_> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_map(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for RowReader<'_, '_> {
    type Error = Unfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unfit> {
        let Some((column, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((column, *value));
        let name: StrDeserializer<'_, Unfit> = column.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unfit> {
        let (column, value) = self.value.take().unwrap_or(("", ValueRef::Null));
        let read = seed.deserialize(ColumnReader(value));
        read.map_err(|Unfit(reason)| Unfit(format!("column '{column}': {reason}")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// One column's value.
struct ColumnReader<'v>(ValueRef<'v>);

impl<'v> ColumnReader<'v> {
    fn text(bytes: &'v [u8]) -> Result<&'v str, Unfit> {
        std::str::from_utf8(bytes).map_err(|_| Unfit::new("it holds a text that is not UTF-8"))
    }
}

impl<'de> Deserializer<'de> for ColumnReader<'_> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0 {
            ValueRef::Null => visitor.visit_unit(),
            ValueRef::Integer(value) => visitor.visit_i64(value),
            ValueRef::Real(value) => visitor.visit_f64(value),
            ValueRef::Text(bytes) => visitor.visit_str(Self::text(bytes)?),
            ValueRef::Blob(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0 {
            ValueRef::Integer(value @ (0 | 1)) => visitor.visit_bool(value == 1),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0 {
            ValueRef::Blob(bytes) => visitor.visit_bytes(bytes),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0 {
            ValueRef::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        match self.0 {
            ValueRef::Text(bytes) => visitor.visit_enum(Variant(Self::text(bytes)?)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The name of a variant without a value.
struct Variant<'v>(&'v str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Unfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Unfit> {
        let name: StrDeserializer<'_, Unfit> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

const WITH_VALUE: &str = "it holds a text, and its variant has a value";

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Unfit;

    fn unit_variant(self) -> Result<(), Unfit> {
        Ok(())
    }

    fn newtype_variant_seed<V: DeserializeSeed<'de>>(self, _: V) -> Result<V::Value, Unfit> {
        Err(Unfit::new(WITH_VALUE))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Unfit> {
        Err(Unfit::new(WITH_VALUE))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unfit> {
        Err(Unfit::new(WITH_VALUE))
    }
}
