//! What somebody was told by some instant of a life, and so must find after a power cut.

use super::life::{End, Wish, value};
use crate::common::{KEYSPACES, Pairs, SOURCES, small_store};
use std::collections::{BTreeMap, BTreeSet};

/// Writes that were begun, and those of them that were acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writes {
    begun: BTreeSet<u8>,
    acknowledged: BTreeSet<u8>,
}

impl Writes {
    /// Whether `found` has all that was acknowledged, and nothing that was never begun.
    pub fn allow(&self, found: &BTreeSet<u8>) -> bool {
        self.acknowledged.is_subset(found) && found.is_subset(&self.begun)
    }
}

/// What somebody was told by some instant of a life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Promise {
    /// The act that was begun last.
    pub act: String,
    kv: Writes,
    pub sql: Writes,
    /// What was handed out to the daemon, and is its own.
    pub handed_out: Option<End>,
    /// Somebody has deleted the SQL database.
    pub lost: bool,
    /// Somebody has said that the stores are to be given back, which then goes on.
    pub restoring: bool,
    /// Somebody has said that the retired stores are to be copied once more.
    rerun: bool,
}

impl Promise {
    pub fn new() -> Self {
        Self {
            act: String::new(),
            kv: Writes::default(),
            sql: Writes::default(),
            handed_out: Some(End::Kv),
            lost: false,
            restoring: false,
            rerun: false,
        }
    }

    /// Whether these are a store's own pairs and the daemon's writes to it.
    pub fn has(&self, pairs: &Pairs, seed: u8, source: &str) -> bool {
        let mut pairs = pairs.clone();
        let mut kv = BTreeSet::new();
        if source == SOURCES[0] {
            kv = pairs.get_mut(KEYSPACES[0]).map(|pairs| take(pairs, 7)).unwrap_or_default();
        }
        let writes = source != SOURCES[0] || self.kv.allow(&kv);
        writes && pairs == small_store(seed, 20)
    }

    /// What a mark in the log says.
    pub fn hear(&mut self, mark: &str) {
        let words: Vec<&str> = mark.split(' ').collect();
        let number = |text: &str| text.parse().expect("a number");
        match words.as_slice() {
            ["kv", "begun", n] => drop(self.kv.begun.insert(number(n))),
            ["kv", "acknowledged", n] => drop(self.kv.acknowledged.insert(number(n))),
            ["sql", "begun", n] => drop(self.sql.begun.insert(number(n))),
            ["sql", "acknowledged", n] => drop(self.sql.acknowledged.insert(number(n))),
            ["begin", act] => {
                (*act).clone_into(&mut self.act);
                if !matches!(*act, "kv-writes" | "settle-kv") {
                    self.handed_out = self.handed_out.filter(|end| *end != End::Kv);
                }
                self.restoring |= matches!(*act, "restore" | "take-back");
                if *act == "lose" {
                    (self.lost, self.handed_out) = (true, None);
                    // They may come back with the file, and need not.
                    self.sql.acknowledged.clear();
                }
            }
            ["end", "abort" | "take-back" | "restore"] | ["settled", "Kv"] => {
                (self.handed_out, self.restoring) = (Some(End::Kv), false);
            }
            ["said", "back"] => self.restoring = true,
            ["said", "rerun"] => self.rerun = true,
            ["end", "sql" | "rerun" | "reclaim"] | ["settled", "Sql"] => {
                self.handed_out = Some(End::Sql);
                if self.rerun || words == ["end", "rerun"] {
                    // It was copied anew.
                    self.sql = Writes::default();
                }
                (self.lost, self.restoring, self.rerun) = (false, false, false);
            }
            ["end" | "kill", _] => {}
            other => panic!("no such mark: {other:?}"),
        }
    }

    /// What is wished at a start after a cut in this act.
    pub fn wishes(&self) -> &'static [Wish] {
        match self.act.as_str() {
            "reclaim" | "settle-reclaim" => &[Wish::Reclaim, Wish::Sql],
            _ => &[Wish::Sql, Wish::Kv],
        }
    }
}

/// Takes the daemon's own writes out, and returns their numbers.
pub fn take(pairs: &mut BTreeMap<Vec<u8>, Vec<u8>>, tag: u8) -> BTreeSet<u8> {
    let own = |key: &[u8], found: &[u8]| {
        found.first().is_some_and(|&number| key == [tag, number] && found == value(number))
    };
    let numbers = pairs.iter().filter(|(key, value)| own(key, value)).map(|(key, _)| key[1]);
    let numbers = numbers.collect();
    pairs.retain(|key, value| !own(key, value));
    numbers
}
