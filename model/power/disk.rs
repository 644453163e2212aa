//! The simulated disk: a FUSE file system in a process of its own, all in memory, that writes down
//! everything that changes something and every sync. In the same process a memory map of its own
//! files would wait for itself.

use super::log::Op;
use super::tree::{Ino, Kind, Node, ROOT, Tree};
use crate::child;
use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A look at a name that begins so leaves a mark in the log.
const MARK: &str = ".mark:";

/// A mark that begins so, and a number: who leaves it is killed after this many more operations.
pub const VICTIM: &str = "kill ";

/// The last mark of a disk with a fault: how many calls could have met it.
pub const CALLS: &str = "calls ";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Any call.
    Io,
    /// What needs room: writes, new names, syncs.
    NoSpace,
    /// What changes anything.
    ReadOnly,
    /// What needs room of the owner's: writes, new names, syncs.
    Quota,
    /// A write writes half of its bytes, and says so.
    ShortWrite,
}

/// From which call of its kind on, and whether just that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub failure: Failure,
    pub at: usize,
    pub for_good: bool,
}

impl Fault {
    fn word(fault: Option<Self>) -> String {
        fault.map_or_else(String::new, |fault| {
            let failure = match fault.failure {
                Failure::Io => "io",
                Failure::NoSpace => "no-space",
                Failure::Quota => "quota",
                Failure::ReadOnly => "read-only",
                Failure::ShortWrite => "short-write",
            };
            format!("{failure} {} {}", fault.at, fault.for_good)
        })
    }

    fn from_word(word: &str) -> Option<Self> {
        let mut words = word.split(' ');
        let failure = match words.next()? {
            "io" => Failure::Io,
            "no-space" => Failure::NoSpace,
            "quota" => Failure::Quota,
            "read-only" => Failure::ReadOnly,
            "short-write" => Failure::ShortWrite,
            _ => return None,
        };
        let at = words.next()?.parse().ok()?;
        Some(Self { failure, at, for_good: words.next()?.parse().ok()? })
    }
}

/// What a call does, for those that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Look,
    Write,
    Create,
    Rename,
    Remove,
    Resize,
    Sync,
}

/// A disk that is mounted.
pub struct Disk {
    server: Child,
    /// Open until the server has ended.
    _output: BufReader<ChildStdout>,
    at: PathBuf,
    log: PathBuf,
}

impl Disk {
    /// Mounts a disk at `at`, an empty folder, that begins with what is in `base`. The log is written
    /// beside it.
    ///
    /// # Panics
    ///
    /// Where the kernel has no FUSE, or does not let this user mount: these tests show nothing then.
    pub fn mount(base: &Path, at: &Path, fault: Option<Fault>) -> Self {
        let log = at.with_extension("log");
        let word = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let words = ["disk", &word(base), &word(at), &word(&log), &Fault::word(fault)];
        let mut command = child::command(&words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().expect("a child process");
        let mut output = BufReader::new(server.stdout.take().expect("its output"));
        let mounted = output.by_ref().lines().map_while(Result::ok).any(|line| line == MOUNTED);
        assert!(
            mounted,
            "no simulated disk at {}: these tests need FUSE (/dev/fuse) and the right to mount, and show nothing without",
            at.display()
        );
        Self { server, _output: output, at: at.to_owned(), log }
    }

    /// Unmounts it and returns what happened.
    pub fn unmount(mut self) -> Vec<Op> {
        unmount(&self.at).expect("unmounts");
        assert!(self.server.wait().expect("ends").success(), "the disk has failed");
        postcard::from_bytes(&fs::read(&self.log).expect("a log")).expect("a whole log")
    }
}

/// Nothing stays mounted when a test fails.
impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.at);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn unmount(at: &Path) -> rustix::io::Result<()> {
    rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH)
}

/// Leaves a mark in the log of the disk that is mounted at `at`.
pub fn mark(at: &Path, text: &str) {
    let found = fs::symlink_metadata(at.join(format!("{MARK}{text}")));
    assert_eq!(found.expect_err("no such file").kind(), std::io::ErrorKind::NotFound);
}

const MOUNTED: &str = "mounted";

/// A child's part.
pub fn serve(base: &str, at: &str, log: &str, fault: &str) {
    let disk = Shared(Arc::new(Mutex::new(State {
        tree: Tree::load(Path::new(base)),
        log: Vec::new(),
        fault: Fault::from_word(fault),
        calls: 0,
        victim: None,
    })));
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::FSName("cutover-power".to_owned()), MountOption::NoAtime];
    let session = fuser::Session::new(Shared(Arc::clone(&disk.0)), at, &config).expect("mounts");
    let mounted = PathBuf::from(at);
    std::thread::spawn(move || {
        // It ends when its test has gone, however that ended, and leaves no dead mount.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = unmount(&mounted);
    });
    println!("\n{MOUNTED}");
    session.run().expect("serves until it is unmounted");
    let mut disk = disk.lock();
    if disk.fault.is_some() {
        let calls = format!("{CALLS}{}", disk.calls);
        disk.log.push(Op::Mark(calls));
    }
    fs::write(log, postcard::to_stdvec(&disk.log).expect("a log")).expect("writes");
}

struct State {
    tree: Tree,
    log: Vec<Op>,
    fault: Option<Fault>,
    /// How many calls there were that could have failed.
    calls: usize,
    /// Who is killed, after how many more operations.
    victim: Option<(rustix::process::Pid, usize)>,
}

impl State {
    fn attr(&self, ino: Ino) -> Option<FileAttr> {
        let (kind, size, perm) = match self.tree.node(ino)? {
            Node::Folder(_) => (FileType::Directory, 0, 0o755),
            Node::File(data) => (FileType::RegularFile, data.length(), 0o644),
        };
        Some(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn is(&self, ino: Ino, kind: Kind) -> bool {
        matches!(
            (self.tree.node(ino), kind),
            (Some(Node::Folder(_)), Kind::Folder) | (Some(Node::File(_)), Kind::File)
        )
    }

    /// Does something and writes it down.
    fn happen(&mut self, op: Op) {
        if let Op::Create { ino, kind, .. } = &op {
            self.tree.make(*ino, *kind);
        }
        op.apply(&mut self.tree);
        self.log.push(op);
        if let Some((victim, left)) = &mut self.victim {
            *left -= 1;
            if *left == 0 {
                // Our own test's child, which asked for it.
                rustix::process::kill_process(*victim, rustix::process::Signal::KILL)
                    .expect("kills");
                self.victim = None;
            }
        }
    }

    /// Whether this call is one that fails.
    fn fails(&mut self, call: Call, what: impl Fn() -> String) -> Option<Failure> {
        let Fault { failure, at, for_good } = self.fault?;
        let concerned = match failure {
            Failure::Io => true,
            Failure::NoSpace | Failure::Quota => {
                matches!(call, Call::Write | Call::Create | Call::Rename | Call::Sync)
            }
            Failure::ReadOnly => !matches!(call, Call::Look | Call::Sync),
            Failure::ShortWrite => call == Call::Write,
        };
        if !concerned {
            return None;
        }
        self.calls += 1;
        if self.calls == at || (for_good && self.calls > at) {
            self.log.push(Op::Failed(format!("{failure:?} {call:?} {}", what())));
            return Some(failure);
        }
        None
    }

    fn error(&mut self, call: Call, what: impl Fn() -> String) -> Result<(), Errno> {
        match self.fails(call, what) {
            None => Ok(()),
            Some(Failure::Io) => Err(Errno::EIO),
            Some(Failure::NoSpace | Failure::ShortWrite) => Err(Errno::ENOSPC),
            Some(Failure::Quota) => Err(Errno::EDQUOT),
            Some(Failure::ReadOnly) => Err(Errno::EROFS),
        }
    }

    fn create(&mut self, folder: INodeNo, name: &OsStr, kind: Kind) -> Result<FileAttr, Errno> {
        let name = name.to_str().ok_or(Errno::EINVAL)?.to_owned();
        self.error(Call::Create, || name.clone())?;
        if self.tree.find(folder.0, &name).is_some() {
            return Err(Errno::EEXIST);
        }
        let ino = self.tree.next();
        self.happen(Op::Create { folder: folder.0, name, ino, kind });
        self.attr(ino).ok_or(Errno::ENOENT)
    }

    fn look(&mut self, from: u32, folder: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let name = name.to_str().ok_or(Errno::EINVAL)?;
        if let Some(text) = name.strip_prefix(MARK) {
            self.log.push(Op::Mark(text.to_owned()));
            if let Some(number) = text.strip_prefix(VICTIM) {
                let pid = i32::try_from(from).ok().and_then(rustix::process::Pid::from_raw);
                self.victim = pid.zip(number.parse().ok());
            }
        } else {
            self.error(Call::Look, || name.to_owned())?;
        }
        let ino = self.tree.find(folder.0, name).ok_or(Errno::ENOENT)?;
        self.attr(ino).ok_or(Errno::ENOENT)
    }

    fn remove(&mut self, folder: INodeNo, name: &OsStr, kind: Kind) -> Result<(), Errno> {
        let name = name.to_str().ok_or(Errno::EINVAL)?.to_owned();
        self.error(Call::Remove, || name.clone())?;
        let ino = self.tree.find(folder.0, &name).ok_or(Errno::ENOENT)?;
        match (self.tree.node(ino), kind) {
            (Some(Node::Folder(_)), Kind::File) => return Err(Errno::EISDIR),
            (Some(Node::File(_)), Kind::Folder) => return Err(Errno::ENOTDIR),
            (Some(Node::Folder(names)), Kind::Folder) if !names.is_empty() => {
                return Err(Errno::ENOTEMPTY);
            }
            _ => {}
        }
        self.happen(Op::Remove { folder: folder.0, name });
        Ok(())
    }

    fn rename(
        &mut self,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let place = |(folder, name): (INodeNo, &OsStr)| -> Result<(Ino, String), Errno> {
            Ok((folder.0, name.to_str().ok_or(Errno::EINVAL)?.to_owned()))
        };
        let (from, to) = (place(from)?, place(to)?);
        self.error(Call::Rename, || format!("{} to {}", from.1, to.1))?;
        let moved = self.tree.find(from.0, &from.1).ok_or(Errno::ENOENT)?;
        let other = self.tree.find(to.0, &to.1);
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        match other {
            Some(_) if flags.contains(RenameFlags::RENAME_NOREPLACE) => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(other) if !exchange => match (self.is(moved, Kind::Folder), self.tree.node(other))
            {
                (true, Some(Node::File(_))) => return Err(Errno::ENOTDIR),
                (false, Some(Node::Folder(_))) => return Err(Errno::EISDIR),
                (true, Some(Node::Folder(names))) if !names.is_empty() => {
                    return Err(Errno::ENOTEMPTY);
                }
                _ => {}
            },
            Some(_) | None => {}
        }
        self.happen(Op::Rename { from, to, exchange, moved: [moved, other.unwrap_or(moved)] });
        Ok(())
    }

    fn write(&mut self, ino: INodeNo, at: u64, bytes: &[u8]) -> Result<u32, Errno> {
        let bytes = match self.fails(Call::Write, || format!("{} at {at}", ino.0)) {
            None => bytes,
            Some(Failure::ShortWrite) => &bytes[..bytes.len() / 2],
            Some(Failure::Io) => return Err(Errno::EIO),
            Some(Failure::NoSpace) => return Err(Errno::ENOSPC),
            Some(Failure::Quota) => return Err(Errno::EDQUOT),
            Some(Failure::ReadOnly) => return Err(Errno::EROFS),
        };
        let Some(Node::File(data)) = self.tree.node(ino.0) else { return Err(Errno::EISDIR) };
        let extends = at + bytes.len() as u64 > data.length();
        if !bytes.is_empty() {
            self.happen(Op::Write { ino: ino.0, at, bytes: bytes.to_vec(), extends });
        }
        u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)
    }

    fn resize(&mut self, ino: INodeNo, length: u64) -> Result<(), Errno> {
        self.error(Call::Resize, || ino.0.to_string())?;
        if !self.is(ino.0, Kind::File) {
            return Err(Errno::EISDIR);
        }
        self.happen(Op::Resize { ino: ino.0, length });
        Ok(())
    }

    fn sync(&mut self, ino: INodeNo, data_only: bool) -> Result<(), Errno> {
        if let Err(error) = self.error(Call::Sync, || ino.0.to_string()) {
            self.log.push(Op::SyncFailed(ino.0));
            return Err(error);
        }
        self.happen(if data_only { Op::SyncData(ino.0) } else { Op::Sync(ino.0) });
        Ok(())
    }
}

struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no thread has panicked")
    }
}

/// Names and attributes are asked for each time.
const TTL: Duration = Duration::ZERO;

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn answer_entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Shared {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(reply, self.lock().look(request.pid(), parent, name));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.lock().attr(ino.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.lock();
        match size.map_or(Ok(()), |size| disk.resize(ino, size)).map(|()| disk.attr(ino.0)) {
            Ok(Some(attr)) => reply.attr(&TTL, &attr),
            Ok(None) => reply.error(Errno::ENOENT),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        answer_entry(reply, self.lock().create(parent, name, Kind::Folder));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.lock().create(parent, name, Kind::File) {
            Ok(attr) => {
                reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.lock().remove(parent, name, Kind::File));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.lock().remove(parent, name, Kind::Folder));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer(reply, self.lock().rename((parent, name), (new_parent, new_name), flags));
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let mut disk = self.lock();
        let mut link = || {
            let name = new_name.to_str().ok_or(Errno::EINVAL)?.to_owned();
            disk.error(Call::Create, || name.clone())?;
            if disk.tree.find(new_parent.0, &name).is_some() {
                return Err(Errno::EEXIST);
            }
            disk.happen(Op::Link { ino: ino.0, folder: new_parent.0, name });
            disk.attr(ino.0).ok_or(Errno::ENOENT)
        };
        answer_entry(reply, link());
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.lock().error(Call::Look, || ino.0.to_string()) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut disk = self.lock();
        match (disk.error(Call::Look, || ino.0.to_string()), disk.tree.node(ino.0)) {
            (Ok(()), Some(Node::File(data))) => reply.data(&data.read(offset, u64::from(size))),
            (Ok(()), Some(Node::Folder(_)) | None) => reply.error(Errno::EISDIR),
            (Err(error), _) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.lock().write(ino, offset, data) {
            Ok(length) => reply.written(length),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        answer(reply, self.lock().sync(ino, data_only));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.lock().sync(ino, false));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut disk = self.lock();
        if let Err(error) = disk.error(Call::Look, || ino.0.to_string()) {
            return reply.error(error);
        }
        let Some(Node::Folder(names)) = disk.tree.node(ino.0) else {
            return reply.error(Errno::ENOTDIR);
        };
        let dots = [(".", ino.0), ("..", ROOT)];
        let names = names.iter().map(|(name, ino)| (name.as_str(), *ino));
        for (at, (name, ino)) in
            (1..).zip(dots.into_iter().chain(names)).skip_while(|(at, _)| *at <= offset)
        {
            let kind = if disk.is(ino, Kind::Folder) {
                FileType::Directory
            } else {
                FileType::RegularFile
            };
            if reply.add(INodeNo(ino), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    /// A disk with room.
    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}

#[test]
#[should_panic(expected = "these tests need FUSE")]
fn a_test_whose_disk_can_t_be_mounted_fails_and_says_what_it_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Disk::mount(folder.path(), &folder.path().join("nowhere"), None));
}
