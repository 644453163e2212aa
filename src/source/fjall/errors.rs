//! What fjall's errors mean, in words that a person can use.

use crate::error::advice::io_within;
use rustix::io::Errno;

/// What fjall has found wrong with a store's own files, in words; none where something else failed.
pub(super) fn damage(error: &fjall::Error) -> Option<String> {
    use fjall::{Error as Fjall, LsmError as Tree};
    if let Some(io) = io_within(error) {
        // What has no number of the system's is fjall's own: a file that ends too early, or bytes that
        // make no sense. And a damaged length leads to a place that no file has.
        let is_its_own =
            io.raw_os_error().is_none_or(|number| number == Errno::INVAL.raw_os_error());
        return is_its_own.then(|| format!("a file can't be read whole ({io})"));
    }
    let words = match error {
        Fjall::Storage(Tree::ChecksumMismatch { .. }) => "the checksum of a block is wrong",
        Fjall::Storage(Tree::Decompress(_)) | Fjall::Decompress(_) => {
            "a block can't be decompressed"
        }
        Fjall::Storage(Tree::InvalidTag(_)) | Fjall::InvalidTag(_) => {
            "a byte that says what comes next has no meaning"
        }
        Fjall::Storage(Tree::InvalidTrailer) => "a block does not end as one does",
        Fjall::Storage(Tree::InvalidHeader(_)) => "a block does not begin as one does",
        Fjall::Storage(Tree::Utf8(_)) => "a name in it is not UTF-8",
        Fjall::Storage(Tree::Unrecoverable) | Fjall::Unrecoverable => {
            "files that it needs are missing or damaged"
        }
        Fjall::InvalidTrailer => "a journal does not end as one does",
        Fjall::JournalRecovery(found) => match found {
            fjall::JournalRecoveryError::InsufficientLength => "a batch in a journal is cut",
            fjall::JournalRecoveryError::TooManyItems => "a batch in a journal is too long",
            fjall::JournalRecoveryError::ChecksumMismatch => {
                "the checksum of a batch in a journal is wrong"
            }
            fjall::JournalRecoveryError::InvalidFileName => "the name of a journal has no meaning",
        },
        _ => return None,
    };
    Some(words.to_owned())
}

/// What else fjall says, as a person reads it.
pub(super) fn told(error: &fjall::Error) -> String {
    use fjall::{Error as Fjall, LsmError as Tree};
    match error {
        Fjall::InvalidVersion(_) | Fjall::Storage(Tree::InvalidVersion(_)) => {
            "it is of a version of fjall that this one does not read".to_owned()
        }
        Fjall::Poisoned => "an earlier write to it failed".to_owned(),
        Fjall::KeyspaceDeleted => "the keyspace was deleted meanwhile".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::advice::within;
    use std::io;
    use std::path::Path;

    /// What fjall fails with has the error of the system within; one about its own files is for fjall.
    #[test]
    fn an_error_of_the_system_is_found_within_that_of_an_engine() {
        let path = Path::new("/");
        let full = fjall::Error::from(io::Error::from(Errno::DQUOT));
        assert!(within(&full, path).unwrap().contains("quota"));
        assert_eq!(within(&fjall::Error::from(io::Error::from(Errno::NOENT)), path), None);
        assert_eq!(within(&fjall::Error::Locked, path), None);
    }

    /// Its own text was printed as fjall's programmers read it.
    #[test]
    fn what_fjall_finds_damaged_is_told_in_words_and_apart_from_what_the_system_refuses() {
        use fjall::{JournalRecoveryError as Journal, LsmError as Tree};
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        for error in [
            fjall::Error::from(Tree::InvalidTag(("BlockType", 7))),
            fjall::Error::from(Tree::InvalidTrailer),
            fjall::Error::from(Tree::InvalidHeader("Block")),
            fjall::Error::from(Tree::Unrecoverable),
            fjall::Error::from(Tree::Io(end())),
            fjall::Error::from(end()),
            fjall::Error::from(io::Error::from(Errno::INVAL)),
            fjall::Error::JournalRecovery(Journal::ChecksumMismatch),
            fjall::Error::InvalidTag(("Value", 7)),
            fjall::Error::InvalidTrailer,
            fjall::Error::Unrecoverable,
        ] {
            let words = damage(&error).unwrap_or_else(|| panic!("{error}"));
            assert!(!words.contains("Error") && !words.contains("::"), "{words}");
        }
        for errno in [Errno::IO, Errno::ACCESS, Errno::NOENT, Errno::MFILE] {
            let error = || io::Error::from(errno);
            assert_eq!(damage(&fjall::Error::from(error())), None);
            assert_eq!(damage(&fjall::Error::from(Tree::Io(error()))), None);
        }
        for error in [
            fjall::Error::Poisoned,
            fjall::Error::InvalidVersion(None),
            fjall::Error::from(Tree::InvalidVersion(9)),
            fjall::Error::KeyspaceDeleted,
        ] {
            assert_eq!(damage(&error), None);
            assert!(!told(&error).contains("Error"), "{error}");
        }
    }
}
