//! The frame around stored bytes. No fuzzer guesses a checksum, so bytes are also tried with the
//! checksum that they should have: what lies behind it is reached that way.

use arbitrary::{Result, Unstructured};
use xxhash_rust::xxh3::xxh3_128;

const CHECKSUM: &[u8] = b"checksum xxh3-128 ";

/// `bytes` between `heading` and a checksum that is right.
#[must_use]
pub fn sign(heading: &str, bytes: &[u8]) -> Vec<u8> {
    let body = bytes.strip_prefix(heading.as_bytes()).unwrap_or(bytes);
    let mut signed = heading.as_bytes().to_vec();
    signed.extend_from_slice(without_checksum(body));
    signed.push(b'\n');
    let sum = xxh3_128(&signed);
    signed.extend_from_slice(CHECKSUM);
    signed.extend_from_slice(format!("{sum:032x}\n").as_bytes());
    signed
}

/// `bytes` up to a last line that is a checksum, so that whole files serve as seeds.
fn without_checksum(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(at) if bytes[at + 1..].starts_with(CHECKSUM) => &bytes[..at],
        Some(_) | None => bytes,
    }
}

/// Panics if `decode` takes what is nearly `whole`: with one byte changed, cut, or longer.
///
/// # Errors
///
/// When there is too little input left to choose by.
pub fn damage<T: std::fmt::Debug, E>(
    u: &mut Unstructured<'_>,
    whole: &[u8],
    decode: impl Fn(&[u8]) -> std::result::Result<T, E>,
) -> Result<()> {
    let mut changed = whole.to_vec();
    let at = u.choose_index(whole.len())?;
    let bits = u.int_in_range(1..=255u8)?;
    changed[at] ^= bits;
    refused(decode(&changed), || format!("byte {at} xor {bits}"));
    refused(decode(&whole[..at]), || format!("cut to {at} bytes"));
    let mut longer = whole.to_vec();
    longer.insert(at, bits);
    refused(decode(&longer), || format!("byte {bits} put in at {at}"));
    Ok(())
}

fn refused<T: std::fmt::Debug, E>(decoded: std::result::Result<T, E>, what: impl Fn() -> String) {
    if let Ok(decoded) = decoded {
        panic!("{}, and it was read as {decoded:?}", what());
    }
}
