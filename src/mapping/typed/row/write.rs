//! From a struct to its columns.

use super::Unfit;
use rusqlite::types::Value;
use serde::ser::{self, Impossible, Serialize, Serializer};
use std::borrow::Cow;

/// A field's name.
pub(in crate::mapping) type Name = Cow<'static, str>;

/// The columns that a struct fills, in the order of its fields, without those that it skips.
pub(in crate::mapping::typed) fn to_row<T: Serialize>(
    row: &T,
) -> Result<Vec<(Name, Value)>, Unfit> {
    row.serialize(RowWriter)
}

impl ser::Error for Unfit {
    fn custom<M: std::fmt::Display>(message: M) -> Self {
        Self::new(message.to_string())
    }
}

/// Refuses kinds of values, each with the same words.
macro_rules! refuse {
    ($reason:expr; $($method:ident($($argument:ty),*);)*) => {
        $(fn $method(self $(, _: $argument)*) -> Result<Self::Ok, Unfit> {
            Err(Unfit::new($reason))
        })*
    };
}

/// Refuses kinds of values that have parts, each with the same words.
macro_rules! refuse_parts {
    ($reason:expr; $($method:ident($($argument:ty),*) -> $parts:ident;)*) => {
        $(fn $method(self $(, _: $argument)*) -> Result<Self::$parts, Unfit> {
            Err(Unfit::new($reason))
        })*
    };
}

const NO_STRUCT: &str = "a row is a struct with a field for each column";

struct RowWriter;

impl Serializer for RowWriter {
    type Ok = Vec<(Name, Value)>;
    type Error = Unfit;
    type SerializeSeq = Impossible<Self::Ok, Unfit>;
    type SerializeTuple = Impossible<Self::Ok, Unfit>;
    type SerializeTupleStruct = Impossible<Self::Ok, Unfit>;
    type SerializeTupleVariant = Impossible<Self::Ok, Unfit>;
    type SerializeMap = Columns;
    type SerializeStruct = Columns;
    type SerializeStructVariant = Impossible<Self::Ok, Unfit>;

    refuse! { NO_STRUCT;
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32);
        serialize_i64(i64); serialize_u8(u8); serialize_u16(u16); serialize_u32(u32);
        serialize_u64(u64); serialize_f32(f32); serialize_f64(f64); serialize_char(char);
        serialize_str(&str); serialize_bytes(&[u8]); serialize_none(); serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    refuse_parts! { NO_STRUCT;
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }

    fn serialize_some<V: ?Sized + Serialize>(self, value: &V) -> Result<Self::Ok, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<V: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &V,
    ) -> Result<Self::Ok, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<V: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &V,
    ) -> Result<Self::Ok, Unfit> {
        Err(Unfit::new(NO_STRUCT))
    }

    fn serialize_map(self, fields: Option<usize>) -> Result<Columns, Unfit> {
        Ok(Columns { row: Vec::with_capacity(fields.unwrap_or(0)), key: None })
    }

    fn serialize_struct(self, _: &'static str, fields: usize) -> Result<Columns, Unfit> {
        self.serialize_map(Some(fields))
    }
}

/// The columns so far.
struct Columns {
    row: Vec<(Name, Value)>,
    /// The name of the field that comes next, where they come as a map does.
    key: Option<Name>,
}

impl Columns {
    fn add<V: ?Sized + Serialize>(&mut self, name: Name, value: &V) -> Result<(), Unfit> {
        let value = value.serialize(ColumnWriter { in_list: false }).map_err(|Unfit(reason)| {
            Unfit(format!("its field '{name}' fits no column: {reason}"))
        })?;
        self.row.push((name, value));
        Ok(())
    }
}

impl ser::SerializeStruct for Columns {
    type Ok = Vec<(Name, Value)>;
    type Error = Unfit;

    fn serialize_field<V: ?Sized + Serialize>(
        &mut self,
        name: &'static str,
        value: &V,
    ) -> Result<(), Unfit> {
        self.add(Name::Borrowed(name), value)
    }

    fn end(self) -> Result<Self::Ok, Unfit> {
        Ok(self.row)
    }
}

/// A struct that has another flattened into it.
impl ser::SerializeMap for Columns {
    type Ok = Vec<(Name, Value)>;
    type Error = Unfit;

    fn serialize_key<K: ?Sized + Serialize>(&mut self, key: &K) -> Result<(), Unfit> {
        match key.serialize(ColumnWriter { in_list: false })? {
            Value::Text(name) => self.key = Some(Name::Owned(name)),
            Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => {
                return Err(Unfit::new(NO_STRUCT));
            }
        }
        Ok(())
    }

    fn serialize_value<V: ?Sized + Serialize>(&mut self, value: &V) -> Result<(), Unfit> {
        let name = self.key.take().ok_or_else(|| Unfit::new(NO_STRUCT))?;
        self.add(name, value)
    }

    fn end(self) -> Result<Self::Ok, Unfit> {
        Ok(self.row)
    }
}

/// One column's value; of a list, which is a blob, only bytes.
struct ColumnWriter {
    in_list: bool,
}

impl ColumnWriter {
    fn value(self, value: impl Into<Value>) -> Result<Value, Unfit> {
        if self.in_list { Err(Unfit::new(LIST)) } else { Ok(value.into()) }
    }

    fn integer<V: TryInto<i64>>(self, value: V) -> Result<Value, Unfit> {
        self.value(value.try_into().map_err(|_| Unfit::new(LARGE))?)
    }

    fn bytes(self, length: usize) -> Result<Bytes, Unfit> {
        if self.in_list { Err(Unfit::new(LIST)) } else { Ok(Bytes(Vec::with_capacity(length))) }
    }
}

const LIST: &str = "it is a list of something else than bytes; give it columns or a table of its own, or make it JSON with `cutover::columns::json`";
const LARGE: &str = "it is an integer beyond what SQLite keeps, which is 64 bits with a sign; `cutover::columns::big_endian` keeps it as bytes";
const NAN: &str =
    "it is NaN, which SQLite makes NULL; `cutover::columns::big_endian` keeps it as bytes";
const NESTED: &str = "it is a struct or a map; give it columns of its own, or make it JSON with `cutover::columns::json`";
const VARIANT: &str =
    "it is a variant with a value in it; make it JSON with `cutover::columns::json`";

impl Serializer for ColumnWriter {
    type Ok = Value;
    type Error = Unfit;
    type SerializeSeq = Bytes;
    type SerializeTuple = Bytes;
    type SerializeTupleStruct = Impossible<Value, Unfit>;
    type SerializeTupleVariant = Impossible<Value, Unfit>;
    type SerializeMap = Impossible<Value, Unfit>;
    type SerializeStruct = Impossible<Value, Unfit>;
    type SerializeStructVariant = Impossible<Value, Unfit>;

    refuse_parts! { NESTED;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
    }

    refuse_parts! { VARIANT;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }

    fn serialize_bool(self, value: bool) -> Result<Value, Unfit> {
        self.value(value)
    }

    fn serialize_i8(self, value: i8) -> Result<Value, Unfit> {
        self.integer(value)
    }

    fn serialize_i16(self, value: i16) -> Result<Value, Unfit> {
        self.integer(value)
    }

    fn serialize_i32(self, value: i32) -> Result<Value, Unfit> {
        self.integer(value)
    }

    fn serialize_i64(self, value: i64) -> Result<Value, Unfit> {
        self.integer(value)
    }

    fn serialize_i128(self, value: i128) -> Result<Value, Unfit> {
        self.integer(value)
    }

    /// Also a byte of a list.
    fn serialize_u8(self, value: u8) -> Result<Value, Unfit> {
        Ok(Value::Integer(value.into()))
    }

    fn serialize_u16(self, value: u16) -> Result<Value, Unfit> {
        self.integer(value)
    }

    fn serialize_u32(self, value: u32) -> Result<Value, Unfit> {
        self.integer(value)
    }

    fn serialize_u64(self, value: u64) -> Result<Value, Unfit> {
        self.integer(value)
    }

    fn serialize_u128(self, value: u128) -> Result<Value, Unfit> {
        self.integer(value)
    }

    fn serialize_f32(self, value: f32) -> Result<Value, Unfit> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<Value, Unfit> {
        if value.is_nan() { Err(Unfit::new(NAN)) } else { self.value(value) }
    }

    fn serialize_char(self, value: char) -> Result<Value, Unfit> {
        self.value(value.to_string())
    }

    fn serialize_str(self, value: &str) -> Result<Value, Unfit> {
        self.value(value.to_owned())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, Unfit> {
        self.value(value.to_owned())
    }

    fn serialize_none(self) -> Result<Value, Unfit> {
        self.value(Value::Null)
    }

    fn serialize_some<V: ?Sized + Serialize>(self, value: &V) -> Result<Value, Unfit> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Unfit> {
        self.value(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Unfit> {
        self.value(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, Unfit> {
        self.value(variant.to_owned())
    }

    fn serialize_newtype_struct<V: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &V,
    ) -> Result<Value, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<V: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &V,
    ) -> Result<Value, Unfit> {
        Err(Unfit::new(VARIANT))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Bytes, Unfit> {
        self.bytes(length.unwrap_or(0))
    }

    fn serialize_tuple(self, length: usize) -> Result<Bytes, Unfit> {
        self.bytes(length)
    }
}

/// The bytes of a list so far.
struct Bytes(Vec<u8>);

impl Bytes {
    fn add<V: ?Sized + Serialize>(&mut self, byte: &V) -> Result<(), Unfit> {
        let byte = match byte.serialize(ColumnWriter { in_list: true })? {
            Value::Integer(byte) => u8::try_from(byte).ok(),
            Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
        };
        self.0.push(byte.ok_or_else(|| Unfit::new(LIST))?);
        Ok(())
    }
}

impl ser::SerializeSeq for Bytes {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_element<V: ?Sized + Serialize>(&mut self, byte: &V) -> Result<(), Unfit> {
        self.add(byte)
    }

    fn end(self) -> Result<Value, Unfit> {
        Ok(Value::Blob(self.0))
    }
}

impl ser::SerializeTuple for Bytes {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_element<V: ?Sized + Serialize>(&mut self, byte: &V) -> Result<(), Unfit> {
        self.add(byte)
    }

    fn end(self) -> Result<Value, Unfit> {
        Ok(Value::Blob(self.0))
    }
}
