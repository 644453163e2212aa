//! Fault points: the instants between durable steps, where a test kills the process or fails the
//! call. Without the feature `__faults` each is nothing.

#[cfg(not(feature = "__faults"))]
use crate::protocol::{Intent, Observation, Session, Step};
#[cfg(not(feature = "__faults"))]
use std::io;

/// Passes the fault point `name`.
#[cfg(not(feature = "__faults"))]
#[expect(clippy::unnecessary_wraps, reason = "it fails where fault points are compiled in")]
pub(crate) const fn point(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Announces a step that the driver is about to take.
#[cfg(not(feature = "__faults"))]
pub(crate) const fn taking(_: &Observation, _: Intent, _: &Session, _: Step) {}

/// How long another connection's lock is waited for: as long as `shipped` says.
#[cfg(not(feature = "__faults"))]
pub(crate) const fn busy_timeout(shipped: std::time::Duration) -> std::time::Duration {
    shipped
}

/// Has a connection take no longer value than a test says.
#[cfg(not(feature = "__faults"))]
#[expect(clippy::unnecessary_wraps, reason = "it fails where fault points are compiled in")]
pub(crate) const fn limit_length(_: &rusqlite::Connection) -> rusqlite::Result<()> {
    Ok(())
}

/// Whether a test has ordered this process to make the mistake `name`.
#[cfg(not(feature = "__faults"))]
pub(crate) const fn mistaken(_name: &'static str) -> bool {
    false
}

/// The steps that a mistake takes before their time, which is after `step`.
#[cfg(not(feature = "__faults"))]
pub(crate) const fn too_early(_: Step, _: &Observation) -> [Step; 0] {
    []
}

#[cfg(feature = "__faults")]
pub(crate) use armed::{busy_timeout, limit_length, mistaken, point, taking, too_early};

#[cfg(feature = "__faults")]
pub use armed::{
    BUSY_ENVIRONMENT, ENVIRONMENT, Fault, LENGTH_ENVIRONMENT, MISTAKE_ENVIRONMENT,
    TRACE_ENVIRONMENT, Taken, arm, arm_act, arm_at_step, arm_from_environment, instants, passed,
    taken,
};

#[cfg(feature = "__faults")]
mod armed {
    use crate::protocol::{AtPath, Intent, Observation, Session, Stage, Step};
    use std::cell::RefCell;
    use std::fs::File;
    use std::io::{self, Write};
    use std::time::Duration;

    /// `kill:N`, `fail:N` or `fail-from:N`, read by [`arm_from_environment`]; N counts from 1. With
    /// `@S` behind it, N counts from the step with number S on.
    pub const ENVIRONMENT: &str = "CUTOVER_FAULT";

    /// A file that gets one line for each step, before it is taken, so that a killed process too
    /// leaves its trace. Read by [`arm_from_environment`].
    pub const TRACE_ENVIRONMENT: &str = "CUTOVER_TRACE";

    /// The name of a mistake, which [`arm_from_environment`] has this thread make, to see whether
    /// the tests notice: `synchronous`, commits are not waited for; `folder`, folders are not synced;
    /// `ancestors`, only the folders that these are in are not;
    /// `trusting`, what was found is not made durable; `tombstones-first`, before the commit point;
    /// `live-first`, before the tombstones.
    pub const MISTAKE_ENVIRONMENT: &str = "CUTOVER_MISTAKE";

    /// How long another connection's lock on the target is waited for, in milliseconds: a test has no
    /// time for what a person waits.
    pub const BUSY_ENVIRONMENT: &str = "CUTOVER_BUSY";

    /// The longest value that SQLite takes, in bytes: a test has no gigabyte to write.
    pub const LENGTH_ENVIRONMENT: &str = "CUTOVER_LENGTH";

    /// What happens at a fault point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// SIGKILL to this process at the fault point with this number.
        Kill(usize),
        /// An I/O error at the fault point with this number, once.
        Fail(usize),
        /// An I/O error at this fault point and every later one.
        FailFrom(usize),
    }

    /// A step that the driver was about to take, and what it was chosen upon.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Taken {
        /// What was seen.
        pub seen: Observation,
        /// What was wanted.
        pub intent: Intent,
        /// What the process had done before.
        pub session: Session,
        /// The step.
        pub step: Step,
    }

    type Act = Box<dyn FnMut(&str)>;

    #[derive(Default)]
    struct Armed {
        fault: Option<Fault>,
        /// Fault points are counted once that many steps were about to be taken.
        from_step: usize,
        passed: Vec<&'static str>,
        taken: Vec<Taken>,
        trace: Option<File>,
        mistake: String,
        /// Every fault point, and every step that was about to be taken.
        instants: Vec<String>,
        act: Option<Act>,
    }

    thread_local! {
        static ARMED: RefCell<Armed> = RefCell::default();
    }

    /// Arms this thread with `fault`, or disarms it, and begins to count from 1.
    pub fn arm(fault: Option<Fault>) {
        arm_at_step(0, fault);
    }

    /// Arms this thread with `fault`, and begins to count when the step with this number is taken;
    /// 0 is at once.
    pub fn arm_at_step(from_step: usize, fault: Option<Fault>) {
        ARMED.with_borrow_mut(|armed| *armed = Armed { fault, from_step, ..Armed::default() });
    }

    /// Has this thread ask `act`, as somebody else, at every instant what it does then: at each fault
    /// point, by its name, and between a look and the step that was chosen upon it, by the step's
    /// words.
    pub fn arm_act(act: impl FnMut(&str) + 'static) {
        ARMED.with_borrow_mut(|armed| {
            *armed = Armed { act: Some(Box::new(act)), ..Armed::default() };
        });
    }

    /// The instants that this thread has passed since it was armed.
    #[must_use]
    pub fn instants() -> Vec<String> {
        ARMED.with_borrow(|armed| armed.instants.clone())
    }

    fn instant(name: &str) {
        let act = ARMED.with_borrow_mut(|armed| {
            armed.instants.push(name.to_owned());
            armed.act.take()
        });
        if let Some(mut act) = act {
            act(name);
            ARMED.with_borrow_mut(|armed| armed.act = Some(act));
        }
    }

    /// Arms this thread as [`ENVIRONMENT`] and [`TRACE_ENVIRONMENT`] say.
    ///
    /// # Panics
    ///
    /// When the file for the trace can't be created.
    pub fn arm_from_environment() {
        let text = std::env::var(ENVIRONMENT).unwrap_or_default();
        let (text, step) = text.split_once('@').unwrap_or((&text, "0"));
        let fault = text.split_once(':').and_then(|(kind, number)| {
            let number = number.parse().ok()?;
            match kind {
                "kill" => Some(Fault::Kill(number)),
                "fail" => Some(Fault::Fail(number)),
                "fail-from" => Some(Fault::FailFrom(number)),
                _ => None,
            }
        });
        arm_at_step(step.parse().unwrap_or(0), fault);
        #[expect(clippy::expect_used, reason = "a test that has no trace shows nothing")]
        let trace = std::env::var_os(TRACE_ENVIRONMENT)
            .map(|path| File::create(path).expect("a file for the trace"));
        let mistake = std::env::var(MISTAKE_ENVIRONMENT).unwrap_or_default();
        ARMED.with_borrow_mut(|armed| (armed.trace, armed.mistake) = (trace, mistake));
    }

    /// The names of the fault points that this thread has passed since it began to count.
    #[must_use]
    pub fn passed() -> Vec<&'static str> {
        ARMED.with_borrow(|armed| armed.passed.clone())
    }

    /// The steps that this thread's drivers were about to take since it was armed, the end of each
    /// run among them.
    #[must_use]
    pub fn taken() -> Vec<Taken> {
        ARMED.with_borrow(|armed| armed.taken.clone())
    }

    pub(crate) fn taking(seen: &Observation, intent: Intent, session: &Session, step: Step) {
        let taken = Taken { seen: seen.clone(), intent, session: session.clone(), step };
        ARMED.with_borrow_mut(|armed| {
            if let Some(file) = &mut armed.trace
                && let Err(error) = writeln!(file, "{taken:?}")
            {
                tracing::error!(%error, "the trace has a gap");
            }
            armed.taken.push(taken);
        });
        instant(&format!("{step:?}"));
    }

    pub(crate) fn mistaken(name: &'static str) -> bool {
        ARMED.with_borrow(|armed| armed.mistake == name)
    }

    pub(crate) fn limit_length(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
        let said = std::env::var(LENGTH_ENVIRONMENT).ok().and_then(|text| text.parse().ok());
        let limit = rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH;
        said.map_or(Ok(()), |bytes| connection.set_limit(limit, bytes).map(drop))
    }

    pub(crate) fn busy_timeout(shipped: Duration) -> Duration {
        let said = std::env::var(BUSY_ENVIRONMENT).ok().and_then(|text| text.parse().ok());
        said.map_or(shipped, Duration::from_millis)
    }

    pub(crate) fn too_early(step: Step, seen: &Observation) -> Vec<Step> {
        let attempts = seen.sources.iter().map(|source| match source.path {
            AtPath::Marker(marker) => Some(marker.run.attempt),
            _ => None,
        });
        match step {
            Step::Commit if mistaken("tombstones-first") => attempts
                .enumerate()
                .filter_map(|(source, attempt)| {
                    attempt.map(|attempt| Step::Mark { source, stage: Stage::Tombstone, attempt })
                })
                .collect(),
            Step::Mark { source: 0, stage: Stage::Tombstone, .. } if mistaken("live-first") => {
                vec![Step::GoLive]
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn point(name: &'static str) -> io::Result<()> {
        let (fault, number) = ARMED.with_borrow_mut(|armed| {
            if armed.taken.len() >= armed.from_step {
                armed.passed.push(name);
            }
            (armed.fault, armed.passed.len())
        });
        instant(name);
        match fault {
            Some(Fault::Kill(at)) if at == number => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
                // The signal is on its way; nothing more may happen in between.
                loop {
                    std::thread::park();
                }
            }
            Some(Fault::Fail(at)) if at == number => Err(injected(name)),
            Some(Fault::FailFrom(from)) if from <= number => Err(injected(name)),
            Some(Fault::Kill(_) | Fault::Fail(_) | Fault::FailFrom(_)) | None => Ok(()),
        }
    }

    fn injected(name: &str) -> io::Error {
        io::Error::other(format!("injected at the fault point '{name}'"))
    }
}
