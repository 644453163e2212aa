//! Whose a file is. What cutover makes takes owner, group and mode from what it replaces or stands
//! beside, so that a daemon can use what an operator, often root, has made for it.

use crate::disk;
use crate::error::Cause;
use crate::error::denied::{mode_of, own_uid, primary_group, user};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Reading and writing, for all.
const READ_WRITE: u32 = 0o666;

/// What is needed to make files in a folder.
const WRITE_SEARCH: u32 = 0o333;

/// Reading, for all.
const READ: u32 = 0o444;

/// A file's owner can always read and write it.
const OWN: u32 = 0o600;

/// A folder's owner, and nobody else.
const ALONE: u32 = 0o700;

/// What a group may.
const GROUP: u32 = 0o070;

/// What all others may.
const OTHERS: u32 = 0o007;

/// Owner, group and mode of a file that is going to be made, and what they are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    uid: u32,
    gid: u32,
    /// None where it is as the umask lets it be.
    mode: Option<u32>,
    of: PathBuf,
}

impl Owner {
    /// That of the file at `path`, which is replaced.
    pub(crate) fn of_file(path: &Path, found: &Metadata) -> Self {
        Self::new(path, found, Some(found.mode() & READ_WRITE))
    }

    /// That of a folder, for a file that its readers can read.
    pub(crate) fn of_folder(path: &Path, found: &Metadata) -> Self {
        Self::new(path, found, Some(found.mode() & READ))
    }

    /// That of a folder, for a file in it, with the mode of the file that is replaced, if there is one.
    pub(crate) fn inside(folder: &Path, found: &Metadata, replaced: Option<&Metadata>) -> Self {
        match replaced {
            Some(file) => Self::new(folder, found, Some(file.mode() & READ_WRITE)),
            None => Self::of_folder(folder, found),
        }
    }

    /// That of a store, for a file that holds what the store holds: who can't come to the store's
    /// files through its folder can't open this one either.
    pub(crate) fn of_store(store: &Path, folder: &Metadata) -> Result<Self, Cause> {
        let version = disk::metadata(&store.join("version"))?.filter(Metadata::is_file);
        let mut mode = version.as_ref().unwrap_or(folder).mode() & READ_WRITE;
        for (class, search) in [(GROUP, 0o010), (OTHERS, 0o001)] {
            if folder.mode() & search == 0 {
                mode &= !class;
            }
        }
        Ok(Self::new(store, folder, Some(mode)))
    }

    /// Whether the user who owns this may write a file, so far as owner and mode tell: who is in the
    /// file's group, they do not.
    pub(crate) fn may_write(&self, file: &Metadata) -> bool {
        self.may(file, READ_WRITE)
    }

    /// Whether the user who owns this may make a file in a folder, so far as [`Owner::may_write`] tells.
    pub(crate) fn may_make_files_in(&self, folder: &Metadata) -> bool {
        self.may(folder, WRITE_SEARCH)
    }

    fn may(&self, found: &Metadata, wanted: u32) -> bool {
        let needed = match self.uid {
            0 => return true,
            own if own == found.uid() => ALONE & wanted,
            _ if found.mode() & GROUP & wanted == GROUP & wanted => return true,
            _ => OTHERS & wanted,
        };
        found.mode() & needed == needed
    }

    /// That of the folder that a file is made in; none where the folder is another user's who shares
    /// it, as everybody shares a folder for temporary files: then the file belongs to the user who makes it.
    pub(crate) fn beside(folder: &Path) -> Result<Option<Self>, Cause> {
        let found = match fs::metadata(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(Cause::io("look at", folder))?,
        };
        let own = own_uid();
        let owner = Self::new(folder, &found, None);
        Ok((own == 0 || own == found.uid()).then_some(owner))
    }

    fn new(of: &Path, found: &Metadata, mode: Option<u32>) -> Self {
        let mode = mode.map(|mode| mode | OWN);
        Self { uid: found.uid(), gid: found.gid(), mode, of: of.to_owned() }
    }

    /// Whether the two belong to one user.
    pub(crate) const fn is_same_user(&self, other: &Self) -> bool {
        self.uid == other.uid
    }

    /// That of a file that holds what files of both hold; both belong to one user.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        // Neither group may read what only the other could.
        let kept = if self.gid == other.gid { !0 } else { !GROUP };
        self.mode = self.mode.zip(other.mode).map(|(mode, other)| mode & other & kept);
        self
    }

    /// Whether a file is neither this user's nor root's, nor of the user who owns this.
    pub(crate) fn is_stranger_to(&self, file: &Metadata) -> bool {
        ![0, own_uid(), self.uid].contains(&file.uid())
    }

    /// Whose it is, as messages name a user.
    pub(crate) fn user(&self) -> String {
        user(self.uid)
    }

    /// What it is taken from, and whose that is.
    pub(crate) fn words(&self) -> String {
        format!("{} belongs to {}", self.of.display(), user(self.uid))
    }

    /// Refuses an owner that this user can't give a file.
    pub(crate) fn check(&self) -> Result<(), Cause> {
        let own = own_uid();
        if own == 0 || own == self.uid { Ok(()) } else { Err(self.refused()) }
    }

    /// None where this user can't give it to a file.
    pub(crate) fn if_given(self) -> Option<Self> {
        self.check().is_ok().then_some(self)
    }

    fn refused(&self) -> Cause {
        Cause::Owner { path: self.of.clone(), owner: user(self.uid), user: user(own_uid()) }
    }

    /// The mode to make the file with: nobody else can open it before it is whole.
    pub(crate) fn first_mode(owner: Option<&Self>) -> Mode {
        let known = owner.is_some_and(|owner| owner.mode.is_some());
        Mode::from_raw_mode(if known { OWN } else { READ_WRITE })
    }

    /// Gives it to an open file that this process has made; as durable as the file's next sync.
    ///
    /// A group that this user can't give stays this user's own, and then it may nothing: it is not
    /// the group that could read before.
    pub(crate) fn give(&self, file: &File) -> Result<(), Cause> {
        self.give_with(file, self.mode)
    }

    /// Gives it to an open folder that this process has made, and that nobody else may use.
    pub(crate) fn give_alone(&self, folder: &File) -> Result<(), Cause> {
        self.give_with(folder, Some(ALONE))
    }

    fn give_with(&self, file: &File, mode: Option<u32>) -> Result<(), Cause> {
        let failed = || Cause::io("give an owner to a file beside", &self.of);
        let found = file.metadata().map_err(failed())?;
        let mut mode = mode.unwrap_or(found.mode() & READ_WRITE);
        if found.uid() != self.uid {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            match rustix::fs::fchown(file, Some(uid), Some(gid)) {
                Err(Errno::PERM) => return Err(self.refused()),
                given => given.map_err(io::Error::from).map_err(failed())?,
            }
        } else if found.gid() != self.gid {
            match rustix::fs::fchown(file, None, Some(Gid::from_raw(self.gid))) {
                Err(Errno::PERM) => mode &= !GROUP,
                given => given.map_err(io::Error::from).map_err(failed())?,
            }
        }
        if mode_of(&found) != mode {
            rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
                .map_err(io::Error::from)
                .map_err(failed())?;
        }
        Ok(())
    }
}

/// Calls `call`, which opens what is in `folder` by its path, as the user who owns that folder, where
/// root runs this: no link that this user has put in there leads `call` to what the user may not use.
/// Only this thread, and what `call` starts, has that user's rights meanwhile. Where it has them already,
/// `call` is only called.
///
/// # Panics
///
/// Where `call` does; this thread has its own rights again then.
pub(crate) fn as_owner_of<T>(
    folder: &File,
    path: &Path,
    call: impl FnOnce() -> T,
) -> Result<T, Cause> {
    if own_uid() != 0 {
        return Ok(call());
    }
    let found = folder.metadata().map_err(Cause::io("look at", path))?;
    if found.uid() == 0 {
        return Ok(call());
    }
    let _rights = Rights::of(found.uid())
        .map_err(Cause::io_rustix("take the rights of the owner of", path))?;
    Ok(call())
}

/// The rights of root's thread, which come back when this is dropped.
struct Rights {
    groups: Vec<Gid>,
    gid: Gid,
}

impl Rights {
    /// Lets this thread have those of a user instead, with the group that the user has for sure: a
    /// folder's group may be one that its owner is not in. What may not be lent is given back by the drop.
    fn of(uid: u32) -> rustix::io::Result<Self> {
        let own = Self { groups: rustix::process::getgroups()?, gid: rustix::process::getegid() };
        set_thread_groups(&[])?;
        set_thread_res_gid(None, Gid::from_raw(primary_group(uid).unwrap_or(NOBODYS)), None)?;
        set_thread_res_uid(None, Uid::from_raw(uid), None)?;
        Ok(own)
    }
}

/// The group of a user whom the system's list does not have: the kernel's for one that it does not know.
const NOBODYS: u32 = 65_534;

impl Drop for Rights {
    fn drop(&mut self) {
        let back = set_thread_res_uid(None, Uid::ROOT, None)
            .and_then(|()| set_thread_res_gid(None, self.gid, None))
            .and_then(|()| set_thread_groups(&self.groups));
        if let Err(errno) = back {
            // It may less than it should, and never more.
            tracing::error!(%errno, "this thread did not get root's rights back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::denied::{denied, denied_within, user_of};

    const EVE: u32 = 1999;
    const HERS: u32 = 1998;

    fn made(folder: &Path, name: &str, (uid, gid, mode): (u32, u32, u32)) -> (PathBuf, Metadata) {
        let path = folder.join(name);
        if mode & ALONE == ALONE {
            fs::create_dir(&path).unwrap();
        } else {
            fs::write(&path, "").unwrap();
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chown(&path, uid, gid).expect("these tests need root");
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).unwrap();
        let found = fs::metadata(&path).unwrap();
        (path, found)
    }

    fn mode(owner: &Owner) -> Option<u32> {
        assert_eq!((owner.uid, owner.gid), (EVE, HERS));
        owner.mode
    }

    #[test]
    fn a_file_may_be_read_by_no_more_than_what_it_is_taken_from() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| made(root.path(), name, (EVE, HERS, mode));
        let (path, file) = make("file", 0o567);
        assert_eq!(mode(&Owner::of_file(&path, &file)), Some(0o666));
        let (path, file) = make("narrow", 0o444);
        assert_eq!(mode(&Owner::of_file(&path, &file)), Some(0o644), "its owner can write it");
        let (folder, found) = make("folder", 0o775);
        assert_eq!(mode(&Owner::of_folder(&folder, &found)), Some(0o644));
        assert_eq!(mode(&Owner::inside(&folder, &found, None)), Some(0o644));
        assert_eq!(mode(&Owner::inside(&folder, &found, Some(&file))), Some(0o644));
        let (_, file) = make("wide", 0o666);
        assert_eq!(mode(&Owner::inside(&folder, &found, Some(&file))), Some(0o666));
        // The store's own file says who reads it, as far as its folder lets them in.
        for (of_folder, of_version, expected) in [
            (0o755, Some(0o664), 0o664),
            (0o750, Some(0o664), 0o660),
            (0o705, Some(0o666), 0o606),
            (0o700, Some(0o666), 0o600),
            (0o766, Some(0o666), 0o600),
            (0o755, None, 0o644),
            (0o744, None, 0o600),
        ] {
            let name = format!("{of_folder:o}-{of_version:?}");
            let (store, found) = make(&name, of_folder);
            if let Some(mode) = of_version {
                made(&store, "version", (EVE, HERS, mode));
            }
            let owner = Owner::of_store(&store, &found).unwrap();
            assert_eq!(mode(&owner), Some(expected), "{name}");
        }
    }

    #[test]
    fn who_may_write_a_file_is_seen_by_its_owner_and_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let of = |uid| Owner { uid, gid: HERS, mode: None, of: PathBuf::new() };
        for (number, (owner, mode, eve, other)) in [
            (EVE, 0o600, true, false),
            (EVE, 0o400, false, false),
            (EVE, 0o606, true, true),
            (EVE, 0o604, true, false),
            (0, 0o600, false, false),
            (0, 0o606, true, true),
            (0, 0o602, false, false),
            // Who is in the file's group is not known.
            (0, 0o660, true, true),
            (0, 0o640, false, false),
            (0, 0o620, false, false),
        ]
        .into_iter()
        .enumerate()
        {
            let (_, file) = made(root.path(), &number.to_string(), (owner, HERS, mode));
            let may = [of(EVE).may_write(&file), of(EVE + 7).may_write(&file)];
            assert_eq!(may, [eve, other], "{owner} {mode:o}");
            assert!(of(0).may_write(&file));
        }
    }

    #[test]
    fn who_may_make_files_in_a_folder_is_seen_by_its_owner_and_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let of = |uid| Owner { uid, gid: HERS, mode: None, of: PathBuf::new() };
        for (number, (owner, mode, eve, other)) in [
            (EVE, 0o700, true, false),
            (EVE, 0o300, true, false),
            (EVE, 0o500, false, false),
            (EVE, 0o600, false, false),
            (EVE, 0o707, true, true),
            (0, 0o755, false, false),
            (0, 0o777, true, true),
            (0, 0o1777, true, true),
            (0, 0o775, true, true),
            (0, 0o765, false, false),
            (0, 0o756, false, false),
        ]
        .into_iter()
        .enumerate()
        {
            let (_, folder) = made(root.path(), &number.to_string(), (owner, HERS, mode));
            let may = [of(EVE).may_make_files_in(&folder), of(EVE + 7).may_make_files_in(&folder)];
            assert_eq!(may, [eve, other], "{owner} {mode:o}");
            assert!(of(0).may_make_files_in(&folder));
        }
    }

    #[test]
    fn what_two_files_are_held_by_together_may_be_read_by_those_who_read_both() {
        let of = |gid, mode| Owner { uid: EVE, gid, mode: Some(mode), of: PathBuf::new() };
        assert_eq!(of(1, 0o664).and(&of(1, 0o646)).mode, Some(0o644));
        assert_eq!(of(1, 0o664).and(&of(2, 0o664)).mode, Some(0o604));
        assert!(of(1, 0o600).is_same_user(&of(2, 0o644)));
        assert!(!of(1, 0o600).is_same_user(&Owner { uid: 0, ..of(1, 0o600) }));
    }

    #[test]
    fn a_new_file_is_its_maker_s_alone_until_it_has_its_owner_and_mode() {
        let root = tempfile::tempdir().unwrap();
        let known = Owner { uid: EVE, gid: HERS, mode: Some(0o640), of: PathBuf::new() };
        let as_umask = Owner { mode: None, ..known.clone() };
        assert_eq!(Owner::first_mode(Some(&known)).as_raw_mode(), 0o600);
        assert_eq!(Owner::first_mode(Some(&as_umask)).as_raw_mode(), 0o666);
        assert_eq!(Owner::first_mode(None).as_raw_mode(), 0o666);
        let given = |name: &str, (uid, gid, mode), owner: &Owner| {
            let (path, _) = made(root.path(), name, (uid, gid, mode));
            owner.give(&File::open(&path).unwrap()).unwrap();
            let found = fs::metadata(&path).unwrap();
            (found.uid(), found.gid(), mode_of(&found))
        };
        assert_eq!(given("a", (0, 0, 0o600), &known), (EVE, HERS, 0o640));
        assert_eq!(given("b", (EVE, 0, 0o600), &known), (EVE, HERS, 0o640));
        assert_eq!(given("c", (EVE, HERS, 0o640), &known), (EVE, HERS, 0o640));
        assert_eq!(given("d", (0, HERS, 0o664), &as_umask), (EVE, HERS, 0o664));
        let (path, _) = made(root.path(), "folder", (0, 0, 0o755));
        known.give_alone(&File::open(&path).unwrap()).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid(), mode_of(&found)), (EVE, HERS, 0o700));
        assert_eq!(user_of(&found), format!("user {EVE}"));
        assert_eq!(user(0), "user 0 (root)");
        assert_eq!(Owner::beside(&root.path().join("missing")).unwrap(), None);
        let beside = Owner::beside(&path).unwrap().unwrap();
        assert_eq!((beside.uid, beside.gid, beside.mode), (EVE, HERS, None));
        assert_eq!(beside.words(), format!("{} belongs to user {EVE}", path.display()));
        assert_eq!(beside.user(), format!("user {EVE}"));
        Owner::beside(&root.path().join("a/below")).unwrap_err();
        // Root can give a file to everybody.
        beside.check().unwrap();
        assert!(beside.if_given().is_some());
    }

    /// Tells the process that runs as Eve where she looks.
    const HER_FOLDER: &str = "CUTOVER_TEST_HER_FOLDER";

    #[test]
    fn who_is_not_root_gives_and_uses_what_is_hers_and_is_told_what_is_denied() {
        use std::os::unix::process::CommandExt;
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let made = |name: &str, owner| made(&root, name, owner).0;
        rustix::fs::chmod(&root, Mode::from_raw_mode(0o755)).unwrap();
        for (name, owner) in [
            ("hers", (EVE, EVE, 0o700)),
            ("hers/own", (EVE, EVE, 0o600)),
            ("hers/roots", (0, 0, 0o600)),
            ("hers/read", (0, 0, 0o644)),
            ("hers/below", (EVE, EVE, 0o700)),
            ("hers/below/roots", (0, 0, 0o600)),
            ("closed", (0, 0, 0o700)),
            ("closed/below", (EVE, EVE, 0o700)),
            ("sticky", (0, 0, 0o1777)),
            ("sticky/roots", (0, 0, 0o666)),
        ] {
            made(name, owner);
        }
        std::os::unix::fs::symlink("hers", root.join("link")).unwrap();
        let ran = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "disk::owner::tests::as_eve_who_is_not_root",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(HER_FOLDER, &root)
            .current_dir("/")
            .uid(EVE)
            .gid(EVE)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "another test runs it as a process of another user's"]
    fn as_eve_who_is_not_root() {
        let root = PathBuf::from(std::env::var_os(HER_FOLDER).unwrap());
        let at = |name: &str| root.join(name);
        assert_eq!(own_uid(), EVE);
        let own = Owner { uid: EVE, gid: HERS, mode: Some(0o660), of: at("hers") };
        let roots = Owner { uid: 0, ..own.clone() };
        own.check().unwrap();
        assert!(matches!(roots.check(), Err(Cause::Owner { .. })));
        assert_eq!(roots.clone().if_given(), None);
        assert!(Owner::beside(&at("hers")).unwrap().is_some());
        assert_eq!(Owner::beside(&root).unwrap(), None);
        // She is in no group but her own.
        let file = File::open(at("hers/own")).unwrap();
        own.give(&file).unwrap();
        assert_eq!(mode_of(&file.metadata().unwrap()), 0o600);
        assert!(matches!(roots.give(&file), Err(Cause::Owner { .. })));
        let place = |cause: Option<Cause>| match cause {
            Some(Cause::Denied { place, owner, .. }) => Some((place, owner)),
            Some(other) => panic!("{other}"),
            None => None,
        };
        let of_root = |name: &str| Some((at(name), user(0)));
        assert_eq!(place(denied("use", &at("hers/own"))), None);
        assert_eq!(place(denied("use", &at("hers/below"))), None);
        for name in ["hers/roots", "hers/read"] {
            assert_eq!(place(denied("use", &at(name))), of_root(name));
        }
        assert_eq!(place(denied("use", &at("closed/below/file"))), of_root("closed"));
        let within = place(denied_within("use", &at("hers/below")));
        assert_eq!(within, of_root("hers/below/roots"));
        // Root's link leads anywhere, for everybody.
        assert_eq!(disk::resolve(&at("link")).unwrap(), at("hers"));
        let refused = disk::check_may_rename(&at("sticky"), &at("sticky/roots"));
        assert!(matches!(refused, Err(Cause::Unchangeable { .. })));
    }

    #[test]
    fn what_an_owner_may_not_do_root_does_not_do_for_them_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        rustix::fs::chmod(root.path(), Mode::from_raw_mode(0o755)).unwrap();
        let (victim, _) = made(root.path(), "victim", (0, 0, 0o755));
        // What root's own groups may, and what the folder's group may, which its owner is not in.
        made(&victim, "shared", (0, 0, 0o060));
        made(&victim, "hers", (0, HERS, 0o060));
        let (store, _) = made(root.path(), "store", (EVE, HERS, 0o755));
        std::os::unix::fs::symlink(&victim, store.join("keyspaces")).unwrap();
        let folder = disk::open(&store).unwrap();
        let led = |name: &str| {
            let path = store.join("keyspaces").join(name);
            as_owner_of(&folder, &store, || fs::create_dir(&path)).unwrap().unwrap_err().kind()
        };
        assert_eq!(led("0"), io::ErrorKind::PermissionDenied);
        for name in ["shared", "hers"] {
            let read = || fs::read(store.join("keyspaces").join(name));
            let read = as_owner_of(&folder, &store, read).unwrap();
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{name}");
        }
        // What is made there is its owner's, and a file that is not stops it.
        let own = store.join("own");
        as_owner_of(&folder, &store, || fs::write(&own, "")).unwrap().unwrap();
        let found = fs::metadata(&own).unwrap();
        assert_eq!((found.uid(), found.gid()), (EVE, NOBODYS));
        made(&store, "roots", (0, 0, 0o600));
        let denied = as_owner_of(&folder, &store, || denied_within("open", &store)).unwrap();
        let words = denied.unwrap().to_string();
        assert!(words.ends_with("who may not use it; let user 1999 use it"), "{words}");
        // Root has its own rights again, also after a panic.
        let panics =
            std::panic::catch_unwind(|| as_owner_of(&folder, &store, || panic!("as a parser may")));
        assert!(panics.is_err());
        assert_eq!((own_uid(), rustix::process::getegid().as_raw()), (0, 0));
        fs::create_dir(victim.join("0")).unwrap();
    }
}
