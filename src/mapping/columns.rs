//! Fields that are no columns by themselves, for `#[serde(with = "…")]` in the struct of a
//! [`Typed`](super::Typed) table.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use std::collections::BTreeMap;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Row {
//!     /// `BLOB`, of 8 bytes.
//!     #[serde(with = "cutover::columns::big_endian")]
//!     id: u64,
//!     /// `BLOB`, of 64 bytes.
//!     #[serde(with = "cutover::columns::bytes")]
//!     signature: [u8; 64],
//!     /// `TEXT`.
//!     #[serde(with = "cutover::columns::json")]
//!     tags: BTreeMap<String, Vec<u32>>,
//! }
//! ```

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use std::collections::{BTreeMap, HashMap};

/// Bytes of any length, as a `BLOB`: `[u8; 64]`, a `Uuid`, or a `Vec<u8>`, which is faster so.
pub mod bytes {
    use super::{Deserializer, Serializer, blob, de};

    /// Writes the blob.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<V: AsRef<[u8]>, S: Serializer>(value: &V, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(value.as_ref())
    }

    /// Reads the blob.
    ///
    /// # Errors
    ///
    /// The blob is no `V`, or there is none.
    pub fn deserialize<'de, V, D>(from: D) -> Result<V, D::Error>
    where
        V: TryFrom<Vec<u8>>,
        D: Deserializer<'de>,
    {
        let bytes = blob(from)?;
        let length = bytes.len();
        V::try_from(bytes).map_err(|_| de::Error::invalid_length(length, &"another number of them"))
    }
}

/// Anything that is JSON, as `TEXT`: maps, lists, structs, variants with values. `None` is the text
/// `null`.
pub mod json {
    use super::{Deserialize, DeserializeOwned, Deserializer, Serialize, Serializer, de, ser};

    /// Writes the text.
    ///
    /// # Errors
    ///
    /// A map's key is not a string, or a number is not finite.
    pub fn serialize<V: Serialize, S: Serializer>(value: &V, to: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(value).map_err(ser::Error::custom)?;
        to.serialize_str(&text)
    }

    /// Reads the text.
    ///
    /// # Errors
    ///
    /// It is not JSON of a `V`.
    pub fn deserialize<'de, V, D>(from: D) -> Result<V, D::Error>
    where
        V: DeserializeOwned,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        serde_json::from_str(&text).map_err(de::Error::custom)
    }
}

/// Numbers that SQLite's own do not hold, as a `BLOB` of their bytes, the highest first, and an `Option`
/// of them. `u64` and `u128` sort and compare as numbers do; `f64` and `f32` are kept to the last bit,
/// NaN and negative zero too, and negative ones sort after the others.
pub mod big_endian {
    use super::{BigEndian, Deserializer, Serializer};

    /// Writes the blob.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<V: BigEndian, S: Serializer>(value: &V, to: S) -> Result<S::Ok, S::Error> {
        value.write(to)
    }

    /// Reads the blob.
    ///
    /// # Errors
    ///
    /// It has another length.
    pub fn deserialize<'de, V, D>(from: D) -> Result<V, D::Error>
    where
        V: BigEndian,
        D: Deserializer<'de>,
    {
        V::read(from)
    }
}

/// A `HashMap` in the order of its keys, for `#[serde(serialize_with = "cutover::columns::sorted")]` in
/// what a mapping encodes: by itself it comes in another order each time, and could not be compared.
///
/// # Errors
///
/// Those of the serializer.
pub fn sorted<K, V, H, S>(map: &HashMap<K, V, H>, to: S) -> Result<S::Ok, S::Error>
where
    K: Ord + Serialize,
    V: Serialize,
    S: Serializer,
{
    let sorted: BTreeMap<&K, &V> = map.iter().collect();
    sorted.serialize(to)
}

/// What [`big_endian`] is for.
pub trait BigEndian: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
    #[doc(hidden)]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! big_endian {
    ($($number:ty)*) => {
        $(
            impl sealed::Sealed for $number {}
            impl sealed::Sealed for Option<$number> {}

            impl BigEndian for $number {
                fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    Blob(self.to_be_bytes()).serialize(to)
                }

                fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    Blob::deserialize(from).map(|Blob(bytes)| Self::from_be_bytes(bytes))
                }
            }

            impl BigEndian for Option<$number> {
                fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    self.map(|number| Blob(number.to_be_bytes())).serialize(to)
                }

                fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    let blob: Option<Blob<_>> = Deserialize::deserialize(from)?;
                    Ok(blob.map(|Blob(bytes)| <$number>::from_be_bytes(bytes)))
                }
            }
        )*
    };
}

big_endian! { u64 u128 f32 f64 }

/// As many bytes, as [`bytes`] has them.
#[derive(Serialize, Deserialize)]
struct Blob<const N: usize>(#[serde(with = "bytes")] [u8; N]);

fn blob<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a blob")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        /// As JSON has them.
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = list.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }

    from.deserialize_byte_buf(Bytes)
}
