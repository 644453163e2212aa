//! An operator's hands on the real files, and a disk that spoils a row.

use super::disk::{Disk, SQL_FILES, remove, sql, with};
use super::follow::World;
use crate::common;
use crate::daemon::put;
use crate::proof::hands::{Act as Hand, Name};
use crate::proof::world::Hidden;
use cutover::protocol::marker::{Hints, Marker};
use cutover::protocol::{Stage, Was};
use std::fs;
use std::path::Path;

impl Disk {
    /// What an operator does.
    pub fn lay_hands(&mut self, hand: Hand, before: &World) {
        let place = before.place;
        let file = sql(&self.folder(), place);
        let aside = self.aside("sql");
        let claim = with(&file, ".cutover");
        match hand {
            Hand::DeletesSql => self.remove_sql(place),
            Hand::CopiesSql => {
                copy_sql(&file, &aside);
                self.rows_aside = self.rows[place].clone();
            }
            Hand::PutsTheCopyBack => {
                copy_sql(&aside, &file);
                self.rows[place] = self.rows_aside.clone();
            }
            Hand::MovesSql { with_claim } => {
                let other = sql(&self.folder(), 1 - place);
                copy_sql(&file, &other);
                self.rows[1 - place] = self.rows[place].clone();
                self.remove_sql(place);
                if with_claim {
                    let _ = fs::remove_file(with(&other, ".cutover"));
                    if claim.exists() {
                        fs::rename(&claim, with(&other, ".cutover")).expect("moves");
                    }
                }
            }
            Hand::NamesTheOtherPlace => {}
            Hand::DeletesTheClaim => fs::remove_file(claim).expect("removes"),
            Hand::DamagesTheClaim => fs::write(claim, "not a claim").expect("writes"),
            Hand::Hides(hidden) => self.hide(hidden, place),
            Hand::SpoilsRows => spoil(&file),
            Hand::Deletes(at, name) => remove(&self.name(at, name)),
            Hand::Moves(at, name) => {
                remove(&self.aside("thing"));
                fs::rename(self.name(at, name), self.aside("thing")).expect("moves");
            }
            Hand::Copies(at, name) => {
                let (from, to) = (self.name(at, name), self.aside("thing"));
                remove(&to);
                put(&from, &to);
            }
            Hand::Puts(at, name) => {
                fs::rename(self.aside("thing"), self.name(at, name)).expect("moves");
            }
            Hand::Damages(at) => {
                let path = self.name(at, Name::Path);
                let marker = fs::read(&path).expect("reads");
                fs::write(path, &marker[..marker.len() / 2]).expect("writes");
            }
            Hand::PutsAnOlderMarker(at, id) => {
                let path = self.name(at, Name::Path);
                let mut older = Marker::decode(&fs::read(&path).expect("reads")).expect("a marker");
                if before.marker(at).is_none_or(|marker| marker.run.id != id) {
                    (older.id, older.attempt) = (id, 1);
                }
                (older.stage, older.was) = (Stage::Sealed, Was::Directory);
                common::SOURCES[at].clone_into(&mut older.source);
                older.target = file.display().to_string();
                let words = || "read the guide".to_owned();
                let hints = Hints { go_on: words(), go_back: words() };
                fs::write(path, older.encode(&hints).expect("a marker")).expect("writes");
            }
            Hand::MixesUp(one, two) => {
                self.swap(&self.name(one, Name::Path), &self.name(two, Name::Path));
            }
            Hand::Exchanges(at) => {
                self.swap(&self.name(at, Name::Path), &self.name(at, Name::Retired));
            }
            Hand::PutsAnotherFile(at, name) => {
                fs::write(self.name(at, name), "dear reader").expect("writes");
            }
        }
    }

    fn hide(&mut self, hidden: Hidden, place: usize) {
        let file = sql(&self.folder(), place);
        let folder = file.with_file_name("");
        self.remove_sql(place);
        match hidden {
            Hidden::Unreadable => fs::write(file, "no database at all").expect("writes"),
            Hidden::MainFileGone => fs::write(with(&file, "-wal"), "its log").expect("writes"),
            // What the migration had filled is gone with it, as `forget_record` asks for.
            Hidden::Dropped => {
                let connection = rusqlite::Connection::open(file).expect("opens");
                connection.execute_batch("CREATE TABLE others (x)").expect("runs");
            }
            Hidden::Unreachable => remove(&folder),
            Hidden::Unmounted => {
                remove(&folder);
                fs::create_dir(folder).expect("a folder");
            }
        }
    }

    /// Two names change what they stand for, of which one may be nothing.
    fn swap(&self, one: &Path, two: &Path) {
        let between = self.aside("between");
        for (from, to) in [(one, between.as_path()), (two, one), (&between, two)] {
            if from.exists() {
                fs::rename(from, to).expect("moves");
            }
        }
    }

    fn remove_sql(&mut self, place: usize) {
        for end in SQL_FILES {
            remove(&with(&sql(&self.folder(), place), end));
        }
        self.rows[place].clear();
    }
}

fn copy_sql(from: &Path, to: &Path) {
    fs::create_dir_all(to.with_file_name("")).expect("a folder");
    for end in SQL_FILES {
        remove(&with(to, end));
        if with(from, end).exists() {
            fs::copy(with(from, end), with(to, end)).expect("copies");
        }
    }
}

/// A disk changes a row behind the fence.
fn spoil(file: &Path) {
    let connection = rusqlite::Connection::open(file).expect("opens");
    let table = format!("{}_first", common::SOURCES[0]);
    let mut triggers = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1")
        .expect("a query");
    let fence: Vec<(String, String)> = triggers
        .query_map([&table], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .expect("reads");
    drop(triggers);
    let change = format!(
        "UPDATE \"{table}\" SET value = x'00' WHERE key = (SELECT min(key) FROM \"{table}\")"
    );
    let drops = fence.iter().map(|(name, _)| format!("DROP TRIGGER \"{name}\""));
    let raises = fence.iter().map(|(_, sql)| sql.clone());
    let batch: Vec<String> = drops.chain([change]).chain(raises).collect();
    connection.execute_batch(&format!("BEGIN; {}; COMMIT;", batch.join("; "))).expect("spoils");
}
