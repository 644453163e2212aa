//! How the retired stores stand beside what was sealed, and whether what goes with them may be nowhere else.

use super::{Places, Seen};
use crate::error::{Cause, Error};
use crate::place::{Look, Site, Standing};
use crate::protocol::{Stage, State, Was};
use crate::source::inventory::{self, Tree};

impl Seen {
    /// What stood at a source's path before its marker: as the marker says, or, where nothing is there any
    /// more, the record.
    pub(crate) fn was(&self, site: &Site, look: &Look) -> Option<Was> {
        match &look.path {
            Standing::Marker(marker) => Some(marker.was),
            Standing::Nothing => {
                let mut sources = self.record()?.sources.iter();
                sources.find(|recorded| recorded.name == site.name).map(|recorded| recorded.was)
            }
            Standing::Directory(_) | Standing::Damaged(_) | Standing::Foreign(_) => None,
        }
    }
}

impl Look {
    /// Whether a retired store stands of which nothing is freed for good.
    pub(crate) const fn keeps_a_store(&self) -> bool {
        matches!(self.retired, Standing::Directory(_)) && !self.freed
    }

    /// Whether a retired store stands and nothing says what was sealed: its marker is gone, or was put back
    /// for one that was gone.
    pub(crate) fn is_unknown(&self) -> bool {
        self.keeps_a_store() && self.path.marker().is_none_or(|marker| marker.store.is_none())
    }

    /// Whether neither its marker nor its retired store stands, and a store `was` there: the volume of both may
    /// not be mounted.
    pub(crate) fn is_out_of_sight(&self, was: Option<Was>) -> bool {
        was == Some(Was::Directory) && self.is_empty()
    }

    /// Whether its store was to be freed, and a part of it may stand still.
    pub(crate) fn is_half_freed(&self) -> bool {
        let is_reclaimed = |stage| stage == Stage::Reclaimed;
        self.keeps_a_store() && self.path.marker().is_some_and(|marker| is_reclaimed(marker.stage))
    }

    /// How the retired store differs from what was sealed, or that it is gone: its files by their lengths.
    /// None where it does not, and where there is nothing to compare it with. `tree` is what lies in it,
    /// where it stands.
    pub(crate) fn retired_differs(&self, was: Option<Was>, tree: Option<&Tree>) -> Option<String> {
        if was != Some(Was::Directory) {
            return None;
        }
        let marker = self.path.marker();
        let is_freed = marker.is_some_and(|marker| marker.stage == Stage::Reclaimed);
        match &self.retired {
            Standing::Directory(_) => {
                let (sealed, tree) = (marker?.store.as_ref()?, tree?);
                if is_freed {
                    inventory::difference_of_the_rest(tree, sealed)
                } else {
                    inventory::difference_in_lengths(tree, sealed)
                }
            }
            Standing::Nothing
            | Standing::Marker(_)
            | Standing::Damaged(_)
            | Standing::Foreign(_) => match marker {
                Some(_) if is_freed => None,
                Some(_) => Some("it is gone".to_owned()),
                None => Some(
                    "it is gone, and so is its marker: their volume may not be mounted".to_owned(),
                ),
            },
        }
    }
}

/// Of a retired store of which nothing says what was sealed.
pub(crate) const UNKNOWN: &str =
    "nothing says what was sealed, since its marker is gone or was put back for one that was gone";

impl Places {
    /// Refuses to free the retired stores where what goes with them may be nowhere else: one is not what was
    /// sealed, or is not known to be; or a table that they were copied into is gone.
    pub(crate) fn check_reclaim(&self, seen: &Seen) -> Result<(), Error> {
        let mut reasons = Vec::new();
        let mut unread: Option<Cause> = None;
        for (site, look) in self.sites.iter().zip(&seen.looks) {
            let stands = matches!(look.retired, Standing::Directory(_));
            let tree = match stands.then(|| inventory::tree(&site.retired)).transpose() {
                Ok(tree) => tree,
                Err(cause) => {
                    unread = Some(cause);
                    continue;
                }
            };
            let differs = look.retired_differs(seen.was(site, look), tree.as_ref());
            let how = differs.or_else(|| look.is_unknown().then(|| UNKNOWN.to_owned()));
            reasons.extend(
                how.map(|how| {
                    format!("source '{}' at {}: {how}", site.name, site.retired.display())
                }),
            );
        }
        let missing = self.tables_missing(seen).map_err(Error::Refused)?;
        reasons.extend(
            missing.iter().map(|table| {
                format!("table '{table}' is gone from {}", self.target.path.display())
            }),
        );
        match unread {
            _ if !reasons.is_empty() => Err(Error::NeedsApproval {
                state: State::Tombstoned.name(),
                why: format!("the retired stores may hold data that is nowhere else ({})", reasons.join(", ")),
                next: "run verify and find out what changed it, or, if it may go all the same, give --even-if-changed"
                    .to_owned(),
            }),
            Some(cause) => Err(Error::Refused(cause)),
            None => Ok(()),
        }
    }

    /// Refuses to copy once more from a retired store that may be a part of what was sealed.
    pub(crate) fn check_known(&self, seen: &Seen) -> Result<(), Error> {
        let unknown: Vec<String> = self
            .unknown(seen)
            .map(|site| format!("source '{}' at {}", site.name, site.retired.display()))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Error::NeedsApproval {
            state: State::RerunAllowed.name(),
            why: format!("{UNKNOWN}, and a part of the store would pass for all of it ({})", unknown.join(", ")),
            next: "put the marker back from a backup, or, if the store is to be copied as it is now, give --even-if-changed"
                .to_owned(),
        })
    }

    /// The sources whose retired stores stand and can't be compared with anything.
    pub(crate) fn unknown<'a>(&'a self, seen: &'a Seen) -> impl Iterator<Item = &'a Site> {
        let both = self.sites.iter().zip(&seen.looks);
        both.filter(|(_, look)| look.is_unknown()).map(|(site, _)| site)
    }

    /// The tables that the record names and that are gone from the live target, where a retired store
    /// stands that may be all there is of them.
    pub(crate) fn tables_missing(&self, seen: &Seen) -> Result<Vec<String>, Cause> {
        match seen.record() {
            Some(record) if seen.looks.iter().any(Look::keeps_a_store) => {
                self.target.missing(&record.tables)
            }
            Some(_) | None => Ok(Vec::new()),
        }
    }
}
