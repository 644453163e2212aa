//! The fields that a struct reads, without a value of it: serde asks a deserializer for them by name.

use super::Unfit;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;

/// The fields of a struct.
pub(in crate::mapping::typed) struct Fields<T> {
    /// Each with its aliases, which are names for the same field.
    pub(in crate::mapping::typed) names: Vec<Vec<&'static str>>,
    of: PhantomData<T>,
}

/// The fields that `T` reads; none where only its values can say, as where another struct is flattened
/// into it.
pub(in crate::mapping::typed) fn fields<T: DeserializeOwned>() -> Option<Fields<T>> {
    let mut names: Vec<(u64, Vec<&'static str>)> = Vec::new();
    for name in ask::<T>(None).names? {
        let field = ask::<T>(Some(name)).field?;
        match names.iter_mut().find(|(known, _)| *known == field) {
            Some((_, aliases)) => aliases.push(name),
            None => names.push((field, vec![name])),
        }
    }
    let names = names.into_iter().map(|(_, aliases)| aliases).collect();
    Some(Fields { names, of: PhantomData })
}

impl<T: DeserializeOwned> Fields<T> {
    /// Whether a field has this name.
    pub(in crate::mapping::typed) fn has(&self, name: &str) -> bool {
        self.names.iter().flatten().any(|known| *known == name)
    }

    /// Whether the struct refuses a column of this name.
    pub(in crate::mapping::typed) fn refuses(&self, name: &str) -> bool {
        !self.has(name) && ask::<T>(Some(name)).field.is_none()
    }
}

/// What `T` answers a deserializer.
#[derive(Default)]
struct Answer {
    names: Option<&'static [&'static str]>,
    /// What it takes the name for that it is given.
    field: Option<u64>,
}

fn ask<T: DeserializeOwned>(name: Option<&str>) -> Answer {
    let mut answer = Answer::default();
    // There is nothing to read.
    let _ = T::deserialize(Question { name, answer: &mut answer });
    answer
}

struct Question<'a> {
    name: Option<&'a str>,
    answer: &'a mut Answer,
}

const NO_VALUE: &str = "there is no value";

impl<'de> Deserializer<'de> for Question<'_> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unfit> {
        Err(Unfit::new(NO_VALUE))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        self.answer.names = Some(fields);
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
        unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Question<'_> {
    type Error = Unfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unfit> {
        let Some(name) = self.name else { return Err(Unfit::new(NO_VALUE)) };
        // An enum of serde's own making, with a variant for each field.
        let field = seed.deserialize(StrDeserializer::<Unfit>::new(name))?;
        let mut hasher = DefaultHasher::new();
        std::mem::discriminant(&field).hash(&mut hasher);
        self.answer.field = Some(hasher.finish());
        Ok(Some(field))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, _: V) -> Result<V::Value, Unfit> {
        Err(Unfit::new(NO_VALUE))
    }
}
