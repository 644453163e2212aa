//! The protocol against an oracle of its own: every observation, every step, and the end of every way.

pub(crate) mod closure;
mod legal;
pub(crate) mod matrix;

use super::*;

#[test]
fn an_id_is_shown_as_32_lower_case_hex_digits_and_nothing_else_is_read_as_one() {
    let id = MigrationId(0xabc);
    let shown = "00000000000000000000000000000abc";
    assert_eq!((id.to_string(), format!("{id:?}")), (shown.to_owned(), shown.to_owned()));
    assert_eq!(MigrationId::try_from(shown.to_owned()), Ok(id));
    for other in [
        "",
        "abc",
        "0000000000000000000000000000abc",
        "000000000000000000000000000000abc",
        "00000000000000000000000000000ABC",
        "+0000000000000000000000000000abc",
        "0000000000000000000000000000 abc",
    ] {
        MigrationId::try_from(other.to_owned()).unwrap_err();
    }
}

#[test]
fn a_stage_is_called_in_messages_what_the_files_call_it() {
    use RecordStage::{Committed, Copying, Live};
    use Stage::{Final, Reclaimed, Restoring, Sealed, Tombstone};
    for stage in [Sealed, Tombstone, Final, Restoring, Reclaimed] {
        assert_eq!(serde_json::to_value(stage).unwrap(), stage.word());
    }
    for stage in [Copying, Committed, Live] {
        assert_eq!(serde_json::to_value(stage).unwrap(), stage.word());
    }
}
