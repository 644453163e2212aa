//! Codecs for the values of a [`Typed`](super::Typed) table. An error tells where and what kind, and
//! nothing of the value: it ends in logs.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Decodes JSON; blanks after it are allowed, anything else is not.
///
/// # Errors
///
/// What is wrong, by line and column.
pub fn from_json<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String> {
    use serde_json::error::Category;
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let what = match error.classify() {
            // The field's name is the struct's; every other text quotes the value.
            Category::Data if text.starts_with("missing field") => return format!("JSON: {text}"),
            Category::Data => "a value that does not fit its field",
            Category::Eof => "an unexpected end",
            Category::Syntax | Category::Io => "no JSON",
        };
        format!("JSON: {what} at line {} column {}", error.line(), error.column())
    })
}

/// Encodes JSON as [`serde_json::to_vec`] does: no blanks, fields in the order of the struct.
///
/// # Errors
///
/// Where a map's key is not a string, or the type's own `Serialize` fails.
pub fn to_json<V: Serialize>(value: &V) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|error| format!("JSON: {error}"))
}

/// Decodes postcard; not a byte may be left.
///
/// # Errors
///
/// What is wrong.
#[cfg(feature = "postcard")]
pub fn from_postcard<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("postcard: {} bytes are left after the value", rest.len())),
        Err(error) => Err(format!("postcard: {error}")),
    }
}

/// Encodes postcard.
///
/// # Errors
///
/// Where the type's own `Serialize` fails.
#[cfg(feature = "postcard")]
pub fn to_postcard<V: Serialize>(value: &V) -> Result<Vec<u8>, String> {
    postcard::to_stdvec(value).map_err(|error| format!("postcard: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Login {
        name: String,
        tries: u32,
    }

    #[test]
    fn an_error_says_where_and_nothing_of_the_value() {
        for (json, reason) in [
            (r#"{"name":"n","tries":"secret"}"#, "a value that does not fit its field"),
            (r#"{"name":"secret"}"#, "missing field `tries`"),
            (r#"{"name":"secret","#, "an unexpected end"),
            ("secret", "no JSON"),
            (r#"{"name":"n","tries":1}secret"#, "no JSON"),
        ] {
            let error = from_json::<Login>(json.as_bytes()).unwrap_err();
            assert!(error.contains(reason) && error.contains("line 1"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn values_come_back_as_they_were() {
        let login = || Login { name: "n".into(), tries: 3 };
        assert_eq!(from_json::<Login>(&to_json(&login()).unwrap()).unwrap(), login());
    }

    proptest::proptest! {
        /// Without serde_json's `float_roundtrip` every fourth does not.
        #[test]
        fn every_finite_number_comes_back_from_json_to_the_last_bit(bits: u64, other: u32) {
            let real = f64::from_bits(bits);
            let single = f32::from_bits(other);
            if real.is_finite() {
                let again: f64 = from_json(&to_json(&real).unwrap()).unwrap();
                proptest::prop_assert_eq!(again.to_bits(), bits);
            }
            if single.is_finite() {
                let again: f32 = from_json(&to_json(&single).unwrap()).unwrap();
                proptest::prop_assert_eq!(again.to_bits(), other);
            }
        }
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn postcard_with_bytes_behind_it_is_refused() {
        let login = Login { name: "n".into(), tries: 3 };
        let mut bytes = to_postcard(&login).unwrap();
        assert_eq!(from_postcard::<Login>(&bytes).unwrap(), login);
        bytes.push(0);
        let error = from_postcard::<Login>(&bytes).unwrap_err();
        assert_eq!(error, "postcard: 1 bytes are left after the value");
    }
}
