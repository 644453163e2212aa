//! Markers: whatever stands at a source's path is read as what it is, or refused.

#![no_main]

use arbitrary::{Result, Unstructured};
use cutover::protocol::marker::{
    FIRST_LINE, Hints, Inventory, MARKER_BYTES_MAX, Marker, SOURCES_MAX, SourceNamed,
};
use cutover::protocol::{MigrationId, Run, Stage, Was};
use cutover_fuzz::frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    stored(bytes);
    stored(&frame::sign(&format!("{FIRST_LINE}\n"), bytes));
    // Too little input is not a finding.
    let _ = written(&mut Unstructured::new(bytes));
});

/// Any bytes: no panic, and what is read is written so that it reads the same.
fn stored(bytes: &[u8]) {
    assert_eq!(Marker::is_ours(bytes), bytes.starts_with(FIRST_LINE.as_bytes()));
    let Ok(marker) = Marker::decode(bytes) else { return };
    assert!(Marker::is_ours(bytes));
    assert!(bytes.len() <= MARKER_BYTES_MAX);
    assert!(marker.sources.len() <= SOURCES_MAX);
    let hints = Hints { go_on: String::new(), go_back: String::new() };
    match marker.encode(&hints) {
        Ok(again) => assert_eq!(Marker::decode(&again).as_ref(), Ok(&marker)),
        // The heading repeats what the fields hold.
        Err(error) => assert!(bytes.len() > MARKER_BYTES_MAX / 4, "{error}: {marker:?}"),
    }
}

/// Any marker: it reads back, its heading can't be forged, and no damage passes for another.
fn written(u: &mut Unstructured<'_>) -> Result<()> {
    let marker = marker(u)?;
    let hints = Hints { go_on: u.arbitrary()?, go_back: u.arbitrary()? };
    let encoded = marker.encode(&hints);
    if marker.sources.len() > SOURCES_MAX {
        encoded.unwrap_err();
        return Ok(());
    }
    let bytes = encoded.expect("it is small");
    assert!(Marker::is_ours(&bytes));
    assert_eq!(Marker::decode(&bytes).as_ref(), Ok(&marker));
    let text = std::str::from_utf8(&bytes).expect("a marker is text");
    for label in ["what: ", "when: ", "old store: ", "SQL: ", "to go on: ", "to go back: "] {
        let lines = text.split(['\n', '\r']).filter(|line| line.starts_with(label)).count();
        assert_eq!(lines, 1, "{label}: {text}");
    }
    frame::damage(u, &bytes, Marker::decode)
}

fn marker(u: &mut Unstructured<'_>) -> Result<Marker> {
    use Stage::{Final, Reclaimed, Restoring, Sealed, Tombstone};
    let stage = *u.choose(&[Sealed, Tombstone, Final, Restoring, Reclaimed])?;
    let run = Run { id: MigrationId(u.arbitrary()?), attempt: u.arbitrary()? };
    let was = *u.choose(&[Was::Directory, Was::Nothing])?;
    let count = u.int_in_range(0..=SOURCES_MAX + 1)?;
    let named = |u: &mut Unstructured<'_>| -> Result<SourceNamed> {
        Ok(SourceNamed { name: u.arbitrary()?, path: u.arbitrary()? })
    };
    let sources = (0..count).map(|_| named(u)).collect::<Result<Vec<_>>>()?;
    let source = match sources.first() {
        Some(first) if u.arbitrary()? => first.name.clone(),
        Some(_) | None => u.arbitrary()?,
    };
    let store = if u.arbitrary()? {
        let (folders, files) = (u.arbitrary()?, u.arbitrary()?);
        Some(Inventory { folders, files, journals: format!("{:032x}", u.arbitrary::<u128>()?) })
    } else {
        None
    };
    Ok(Marker::new(
        stage,
        u.arbitrary()?,
        run,
        &source,
        was,
        sources,
        u.arbitrary()?,
        u.arbitrary()?,
        u.arbitrary()?,
        u.arbitrary()?,
        store,
    ))
}
