//! The frame around every file and row of ours: text lines, one line of JSON, one checksum line.

use super::DecodeError;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_128;

const CHECKSUM: &str = "checksum xxh3-128 ";

/// `heading` (whole lines, or empty), then `body` as one line of JSON, then the checksum of both.
pub(super) fn seal<T: Serialize>(heading: &str, body: &T) -> Result<String, DecodeError> {
    let json = serde_json::to_string(body)
        .map_err(|error| DecodeError::new(format!("it can't be written as JSON: {error}")))?;
    let text = format!("{heading}{}\n", printable(json));
    let sum = xxh3_128(text.as_bytes());
    Ok(format!("{text}{CHECKSUM}{sum:032x}\n"))
}

/// JSON escapes the controls below the blank for itself; a terminal obeys others, too. Outside of
/// strings there are none.
fn printable(json: String) -> String {
    if !json.contains(char::is_control) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The JSON line of `bytes`, once size, UTF-8, checksum and format number are found to be right.
pub(super) fn unseal<T: DeserializeOwned>(
    bytes: &[u8],
    bytes_max: usize,
    format: u32,
) -> Result<T, DecodeError> {
    if bytes.len() > bytes_max {
        return Err(DecodeError::new(format!(
            "it has {} bytes, more than the {bytes_max} that one can have",
            bytes.len()
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::new("it is not UTF-8"))?;
    let lines = text.strip_suffix('\n').ok_or_else(|| DecodeError::new("its last line is cut"))?;
    let (rest, sum) = lines
        .rsplit_once('\n')
        .and_then(|(rest, last)| Some((rest, last.strip_prefix(CHECKSUM)?)))
        .ok_or_else(|| DecodeError::new("it does not end in a checksum line"))?;
    let signed = text.get(..=rest.len()).unwrap_or_default();
    if super::hex_u128(sum) != Some(xxh3_128(signed.as_bytes())) {
        return Err(DecodeError::new("its checksum is wrong"));
    }
    let json = rest.rsplit_once('\n').map_or(rest, |(_, json)| json);
    let probe: Format = decode(json)?;
    if probe.format != format {
        return Err(DecodeError::new(format!(
            "its format is number {}, and this version of cutover reads number {format}",
            probe.format
        )));
    }
    decode(json)
}

#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

fn decode<T: DeserializeOwned>(json: &str) -> Result<T, DecodeError> {
    serde_json::from_str(json)
        .map_err(|error| DecodeError::new(format!("its JSON line can't be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_just_the_size_that_it_can_have_is_read_and_a_byte_more_is_not() {
        let text = seal("", &serde_json::json!({"format": 1})).unwrap();
        let (bytes, len) = (text.as_bytes(), text.len());
        unseal::<serde_json::Value>(bytes, len, 1).unwrap();
        unseal::<serde_json::Value>(bytes, len + 1, 1).unwrap();
        let error = unseal::<serde_json::Value>(bytes, len - 1, 1).unwrap_err();
        let most = len - 1;
        assert_eq!(
            error.to_string(),
            format!("it has {len} bytes, more than the {most} that one can have")
        );
    }
}
